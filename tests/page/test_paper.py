"""Figures and tables for papers."""

import re
from dataclasses import replace

import pytest
from pages import made

from nfbench.core.errors import UsageError
from nfbench.report import figures
from nfbench.report.board import tables
from nfbench.report.latex import escaped, latex


@pytest.fixture(scope="module")
def small():
    return made(threats=("blackbox", "adaptive-whitebox"), eps=(0.1, 0.25), images=20)


def test_there_is_a_figure_of_each_kind(small, tmp_path):
    pytest.importorskip("matplotlib")
    names = [file.name for file in figures.write(small, tmp_path, "svg")]
    assert len(set(names)) == len(names) == 4 + 4 + 2 + 2 + 4
    assert {name.split("-")[0] for name in names} == {"roc", "scores", "radius", "ladder", "heat"}


def test_figures_are_the_same_bytes_twice(small, tmp_path):
    pytest.importorskip("matplotlib")
    few = replace(small, cells=[c for c in small.cells if c.eps == 0.1 and c.attack.name == "fgsm"])
    first, second = (figures.write(few, tmp_path / name, "svg") for name in "ab")
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()
        assert b"<dc:date>" not in one.read_bytes()


def test_a_pdf_embeds_its_fonts_and_has_no_date(small, tmp_path):
    pytest.importorskip("matplotlib")
    few = [c for c in small.cells if c.threat_model.name == "blackbox" and c.eps == 0.1]
    for file in figures.write(replace(small, cells=few), tmp_path, "pdf"):
        content = file.read_bytes()
        assert content.startswith(b"%PDF")
        assert b"/FontFile2" in content
        assert b"/CreationDate" not in content


def test_names_of_any_kind_make_figures_of_their_own(tmp_path):
    pytest.importorskip("matplotlib")
    run = made(("_a$b$", "<kd>"), threats=("../x", "..-x"), eps=(0.1,), images=20)
    written = figures.write(run, tmp_path / "out", "svg")
    assert {file.parent for file in written} == {tmp_path / "out"}
    assert (
        len({file.name for file in written}) == len(written) == len(list((tmp_path / "out").iterdir()))
    )


def test_without_matplotlib_it_is_said_how_to_get_it(small, tmp_path, without_matplotlib):
    with pytest.raises(UsageError, match=r"pip install 'nfbench\[figures\]'"):
        figures.write(small, tmp_path, "svg")


def test_a_place_that_cannot_be_written_is_named(small, tmp_path):
    pytest.importorskip("matplotlib")
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="can't write figures"):
        figures.write(small, tmp_path / "file", "svg")


def test_latex_has_a_table_a_threat_model_with_every_number_and_interval(small):
    text = latex(small)
    assert text.count(r"\begin{table}") == text.count(r"\bottomrule") == 2
    for table in tables(small):
        for entries in table.rows.values():
            for entry in (e for e in entries if e.sr5_low is not None):
                limits = f"{entry.sr5_low:.3f}, {entry.sr5_high:.3f}"
                assert re.search(rf"{entry.sr5:.3f} {{\\scriptsize{{}}{{\[}}{limits}{{\]}}}}", text)


def test_a_wide_latex_table_is_split_by_budget():
    text = latex(made(attacks=("a", "b", "c", "d"), threats=("blackbox",), eps=(0.1, 0.2)))
    assert text.count(r"\begin{table}") == 2


def test_names_in_latex_are_text():
    name = "a_b & 50% #1 {x} \\input{/etc/passwd} $y$ ~^ [*] --"
    text = latex(made(defenses=(name,)))
    assert escaped(name) in text
    assert r"\input{" not in text
    plain = re.sub(r"\\[{}&%$#_\\]", "", text)
    assert plain.count("{") == plain.count("}")


@pytest.mark.parametrize(
    ("raw", "found"),
    [("50%", r"50\%"), ("a--b", "a-{}-b"), ("x\ny", "x y"), ("≤", r"$\leq$"), ("[", "{[}")],
)
def test_a_sign_in_latex(raw, found):
    assert escaped(raw) == found


def test_an_unknown_statistic_is_refused(small):
    with pytest.raises(UsageError):
        latex(small, "auroc")
