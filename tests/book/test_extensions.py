"""Small extensions of the site: chapter numbers, labels of works, links from code to the package page."""

from pybtex.database import Entry, Person

from book._ext.chapter_numbers import number_of
from book._ext.package_links import with_links
from book._ext.reference_labels import AuthorYearLabels, label


def test_a_chapter_has_the_number_of_its_file_and_other_pages_none() -> None:
    assert number_of("book/03-closed-form") == 3
    assert number_of("book/16-langevin") == 16
    assert number_of("book/toolbox") is None
    assert number_of("book/intro") is None


def entry(*names: str, year: str = "2025") -> Entry:
    return Entry("article", {"title": "T", "year": year}, {"author": [Person(name) for name in names]})


def test_works_are_labelled_as_the_text_cites_them() -> None:
    assert label(entry("Xu, Aolin", "Raginsky, Maxim", year="2017")) == "Xu and Raginsky, 2017"
    assert label(entry("Peng, A", "Li, B", "Su, C")) == "Peng et al., 2025"
    assert label(entry("van der Vaart, A")) == "van der Vaart, 2025"
    assert label(Entry("book", {"title": "{A} book", "year": "2000"})) == "A book, 2000"
    same = [entry("Wu, L"), entry("Wu, L"), entry("Wu, L", year="2023")]
    assert list(AuthorYearLabels().format_labels(same)) == ["Wu, 2025a", "Wu, 2025b", "Wu, 2023"]


def test_a_call_of_the_package_leads_to_its_entry_and_other_names_do_not() -> None:
    def code(module: str, name: str) -> str:
        return f'<span class="n">{module}</span><span class="o">.</span><span class="n">{name}</span>'

    page = with_links(code("neu", "bound") + code("np", "array"), {"neu.bound"})
    assert page == f'<a class="package-link" href="api.html#helpers.neu.bound">{code("neu", "bound")}</a>' + code(
        "np", "array"
    )
