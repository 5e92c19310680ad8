// ---- who computes: a worker made from the engine's own text, or the main thread in slices ---------------------------------------

// Answers on a port, in a worker or beside the page: {digits}, {id, settings, mode}, {id, mode}; modes are "run" (to the end,
// as fast as it goes), "play" (an epoch a moment), "step" (one epoch) and "pause". Sends {id, portrait, quick}, {id, results},
// {id, diverged}. Works at most `slice` ms at a time, then lets the port speak.
function serve({ digits, prepare, epoch, trained, answers, measure, portrait, plane, keep }, port, slice) {
  let all = null;
  let job = null;
  let waiting = false;
  const later = (delay) => {
    if (waiting) return;
    waiting = true;
    setTimeout(() => { waiting = false; turn(); }, delay);
  };
  const show = (quick) => {
    job.shown = performance.now();
    port.postMessage({ id: job.id, portrait: portrait(job.prepared), quick: quick ? measure(job.prepared) : null });
  };
  function advance() { // one epoch; false where there is none to come
    const { prepared } = job;
    if (job.diverged || trained(prepared)) return false;
    job.work = null;
    if (!epoch(prepared.runs, prepared.next_orders())) {
      job.diverged = true;
      port.postMessage({ id: job.id, diverged: prepared.runs.losses.length });
    } else keep(prepared);
    return !job.diverged;
  }
  function turn() {
    if (job === null || job.done) return;
    const until = performance.now() + slice;
    if (job.mode === "play" || job.mode === "step") {
      const more = advance();
      if (job.diverged) { job.done = true; return; }
      if (job.mode === "step" || !more) job.mode = more ? "pause" : "run";
      if (more) { show(true); later(60); return; }
    }
    if (job.mode === "run") {
      while (performance.now() < until && advance());
      if (job.diverged) { job.done = true; return; }
      if (!trained(job.prepared)) {
        if (performance.now() - job.shown > 90) show(false);
        later(0);
        return;
      }
    }
    if (job.prepared.runs.steps === 0) return; // paused before the first step
    job.work ??= answers(job.prepared);
    while (performance.now() < until) {
      const { value, done } = job.work.next();
      if (!done) continue;
      port.postMessage({ id: job.id, portrait: portrait(job.prepared), plane: plane(job.prepared), results: value });
      job.done = true;
      return;
    }
    later(0);
  }
  port.onmessage = ({ data }) => {
    if (data.digits) all = digits(data.digits);
    if (data.settings) {
      job = { id: data.id, mode: data.mode, prepared: prepare(data.settings, all), work: null, done: false, shown: 0 };
      keep(job.prepared);
      if (data.mode === "pause") show(false);
    } else if (data.mode && job !== null && data.id === job.id) {
      job.mode = data.mode;
      job.done = false;
    }
    later(0);
  };
}

const SLICES = { worker: 25, page: 8 }; // ms

// A port to the engine: {post, listen, where}. Falls back to the page where no worker can be had, and says so.
function connect(listen) {
  const beside = () => { // the two ends of a port within the page
    const near = { onmessage: null, postMessage: (data) => setTimeout(() => listen(data), 0) };
    serve(engine(), near, SLICES.page);
    return (data) => setTimeout(() => near.onmessage({ data }), 0);
  };
  const port = { post: null, where: "worker", close() {} };
  const sent = [];
  const fall_back = () => {
    port.where = "page";
    port.close = () => {};
    const post = beside();
    port.post = post;
    sent.forEach(post);
    setTimeout(() => listen({ where: "page" }), 0);
  };
  try {
    const text = `(${serve})((${engine})(), self, ${SLICES.worker});`;
    const address = URL.createObjectURL(new Blob([text], { type: "text/javascript" }));
    const worker = new Worker(address);
    let spoken = false;
    worker.onmessage = ({ data }) => { spoken = true; listen(data); };
    worker.onerror = (event) => {
      if (spoken) { listen({ broken: event.message }); return; }
      event.preventDefault();
      worker.terminate();
      fall_back();
    };
    port.post = (data) => {
      if (!spoken) sent.push(data); // to be said again should the worker turn out not to start
      worker.postMessage(data);
    };
    port.close = () => { worker.terminate(); URL.revokeObjectURL(address); };
  } catch {
    fall_back();
  }
  return port;
}
