"""Pages: tables as text, and the same content as Markdown and as HTML that needs no other file."""

import base64

import pytest

from protcli.experiments.pages import Page, Picture, Section, Table


def test_a_table_as_markdown():
    table = Table("Errors", ("model", "MSE"), (("a|b", "-1.5 [-2.0, -1.0]"), ("c", "")), "In Å².")
    assert table.to_markdown() == (
        "**Errors**\n\n| model | MSE |\n|---|---:|\n| a\\|b | -1.5 [-2.0, -1.0] |\n| c |  |\n\nIn Å²."
    )


def test_columns_of_figures_are_set_flush_right():
    rows = (("a", "1,234", "2 to 3", "99e36ee8929d", "-0.5 [-1.0, 0.0]"), ("b", "", "7", "12ab", "one seed"))
    table = Table("t", ("", "b", "c", "d", "e"), (*rows, rows[0]))
    assert [table.is_figure(column) for column in range(5)] == [False, True, True, False, True]
    with pytest.raises(ValueError, match="5 cells"):
        Table("t", table.headings, (("1", "2"),))


def test_a_page_escapes_and_embeds(tmp_path):
    picture = tmp_path / "a.png"
    picture.write_bytes(b"\x89PNG not really")
    section = Section(
        "What <it> says",
        points=("a < b",),
        tables=(Table("t", ("", "x"), (("<script>", "1"),)),),
        pictures=(Picture(picture, "a 'caption'"),),
        commands=("protcli train 'a b'",),
    )
    page = Page("Title", "Why?", "SYNTHETIC", (section,))
    html = page.to_html()
    assert "<script>" not in html
    assert "a &lt; b" in html
    assert base64.b64encode(picture.read_bytes()).decode() in html
    assert '<td class="figure">1</td>' in html
    assert '<p class="warning">SYNTHETIC</p>' in html
    markdown = page.to_markdown()
    assert markdown.startswith("# Title\n\n*Why?*\n\n> **SYNTHETIC**\n\n## What <it> says\n\n- a < b\n\n**t**")
    assert "![a 'caption'](a.png)" in markdown
    assert markdown.endswith("```sh\nprotcli train 'a b'\n```\n")
    assert "warning" not in Page("Title", "Why?", "", ()).to_html().split("</style>")[1]
