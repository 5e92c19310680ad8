// Brings the widgets of a built page to life without a kernel: for every widget view that the build left in the page it
// imports the widget's own module and hands it a small model. Only anywidgets are served; a page that holds anything
// else says so in one sentence. A page without JavaScript keeps the table that stands behind each view.

// A classic script: browsers refuse module files on pages that are opened from the file system.

(() => {
  const VIEW = 'script[type="application/vnd.jupyter.widget-view+json"]';
  const STATE = 'script[type="application/vnd.jupyter.widget-state+json"]';

  const modules = new Map(); // source text of a module -> promise of the module: each is loaded once a page
  const styles = new Set();

  function load(source) {
    if (!modules.has(source)) {
      const address = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
      modules.set(source, import(address).finally(() => URL.revokeObjectURL(address)));
    }
    return modules.get(source);
  }

  function addStyle(text) {
    if (!text || styles.has(text)) return;
    styles.add(text);
    const style = document.createElement("style");
    style.textContent = text;
    document.head.append(style);
  }

  // The part of anywidget's model that works without a kernel.
  function makeModel(state) {
    const values = { ...state };
    const listeners = new Map();
    const call = (event, ...rest) => [...(listeners.get(event) ?? [])].forEach((listener) => listener(...rest));
    return {
      get: (key) => values[key],
      set(key, value) {
        if (Object.is(values[key], value)) return;
        values[key] = value;
        call(`change:${key}`, { changed: { [key]: value } }, value);
        call("change");
      },
      save_changes() {},
      send() {},
      // The address of a file at the root of the site; a model that has it knows that it lives without a kernel.
      asset: (name) => new URL((document.documentElement.dataset.content_root ?? "./") + name, location.href).href,
      on(event, listener) {
        listeners.set(event, (listeners.get(event) ?? new Set()).add(listener));
      },
      off(event, listener) {
        if (listener) listeners.get(event)?.delete(listener);
        else listeners.delete(event);
      },
    };
  }

  async function show(view, models) {
    const entry = models[JSON.parse(view.textContent).model_id];
    if (entry?.model_module !== "anywidget") {
      throw new Error("This control needs a running kernel: open the page as a notebook to use it.");
    }
    const { default: exported } = await load(entry.state._esm);
    const widget = typeof exported === "function" ? await exported() : exported;
    entry.model ??= makeModel(entry.state); // two views of one widget move together
    if (!entry.ready) entry.ready = Promise.resolve(widget.initialize?.({ model: entry.model }));
    await entry.ready;
    addStyle(entry.state._css);
    const place = document.createElement("div");
    place.className = "static-widget";
    view.after(place);
    await widget.render({ model: entry.model, el: place });
  }

  function explain(view, error) {
    const note = document.createElement("p");
    note.className = "static-widget-problem";
    note.setAttribute("role", "alert");
    note.textContent = error.message;
    view.after(note);
    view.parentElement.classList.add("show-fallback");
  }

  const state = document.querySelector(STATE);
  const models = state ? JSON.parse(state.textContent).state : {};
  for (const view of document.querySelectorAll(VIEW)) show(view, models).catch((error) => explain(view, error));
})();
