"""The report is read with a browser, as its readers do. Without one these tests are skipped, and say so."""

import itertools
import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from jaxmlp import sweep as swept
from jaxmlp._intervals import Interval, interval
from jaxmlp.sweep.metrics import METRICS, REPORTED, Setting, bounds, is_better_high, numbered, on_test
from jaxmlp.sweep.report import write_pictures, write_report
from jaxmlp.sweep.report._importance import importance

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
HOSTILE = '<script>document.title="run"</script>'
HOSTILE_VALUES = ["</script><b>x", '<img src="x" onerror="document.title=1">']
MEGABYTES = 2**20


def sweep(
    diverges=lambda row: row["learning_rate"] == 1.0, title="digits", epochs=4, metric="validation_accuracy", **grid
):
    """Results of a made-up sweep in which `learning_rate` matters and nothing else does."""
    grid = grid or {
        "learning_rate": [0.01, 0.1, 1.0],
        "momentum": [0.0, 0.9],
        "hidden": ["8", "16:16"],
        "seed": [0, 1],
    }
    noise, rows = np.random.default_rng(0), []
    for trial, values in enumerate(itertools.product(*grid.values())):
        row = {"trial": trial, **dict(zip(grid, values, strict=True))}
        is_bad = diverges(row)
        score = None if is_bad else 0.9 - 0.1 * (math.log10(row["learning_rate"]) + 0.5) ** 2 + noise.normal(0, 0.005)
        loss = None if score is None else 2 - 2 * score
        scores = {"train_loss": loss}
        if metric != "train_loss":
            scores |= {"validation_loss": loss, "validation_accuracy": score, "test_accuracy": score and score - 0.01}
        rows.append({**row, **scores, "epochs": epochs, "status": "diverged" if is_bad else "finished", "seconds": 0.5})
    types = {name: pl.Float64 for name in (*METRICS, *REPORTED) if name in rows[0]}
    table = pl.DataFrame(rows, schema_overrides=types)

    def curves(trial):
        """Metrics fall or rise to what the table says; those of a diverged trial are gone at its end."""
        end = rows[trial]["train_loss"]
        loss = [(end or 3.0) + 1 / (1 + epoch) if end or epoch < epochs - 1 else None for epoch in range(epochs)]
        columns = {"epoch": range(1, epochs + 1), "learning_rate": [0.1] * epochs, "train_loss": loss}
        if metric != "train_loss":
            columns |= {
                "validation_loss": loss,
                "validation_accuracy": [None if v is None else 1 - v / 4 for v in loss],
            }
        return pl.DataFrame({name: pl.Series(column, strict=False) for name, column in columns.items()})

    def settings(metric, over):
        groups = table.with_columns(place=pl.Series(numbered(tuple(grid), table.select(*grid).rows(), over)))
        found = []
        for (_,), group in groups.group_by("place", maintain_order=True):
            shared = {name: group[name][0] for name in grid if name not in over}
            bad, values = group[metric].null_count(), group[metric].drop_nulls().to_list()
            is_whole, test = values and not bad, on_test(metric)
            mean = interval(values, *bounds(metric)) if is_whole else Interval(math.nan, math.nan, math.nan)
            of_test = interval(group[test].to_list()) if is_whole and test in group.columns else None
            found.append(Setting(shared, metric, *mean, tuple(group["trial"]), group.height, of_test, bad))
        sign = -1 if is_better_high(metric) else 1
        return sorted(found, key=lambda each: math.inf if math.isnan(each.mean) else sign * each.mean)

    return SimpleNamespace(
        table=lambda: table,
        curves=curves,
        names=tuple(grid),
        metric=metric,
        title=title,
        unfinished=None,
        _settings=settings,
    )


@pytest.fixture(scope="module")
def driver() -> Iterator[webdriver.Chrome]:
    if not (CHROMIUM and DRIVER):
        pytest.skip("no browser here: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--disable-gpu",
        "--window-size=1366,900",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield browser
    browser.quit()


class Page:
    """A report, open in the browser."""

    def __init__(self, driver: webdriver.Chrome, path: Path, width: int = 1366) -> None:
        self.driver = driver
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        driver.get_log("browser"), driver.get_log("performance")  # what earlier pages left
        driver.get(path.as_uri())
        self.wait("document.documentElement.dataset.ready")

    def js(self, expression):
        return self.driver.execute_script(f"return {expression}")

    def wait(self, expression):
        WebDriverWait(self.driver, 5, 0.05).until(lambda _: self.js(expression))

    def find(self, css):
        return self.driver.find_element(By.CSS_SELECTOR, css)

    def scroll_to(self, name):
        """Scroll to a picture and wait until it is drawn."""
        self.js(f"document.getElementById('{name}').scrollIntoView({{block: 'center'}})")
        self.wait(f"document.querySelector('#{name} .main-svg')")

    def draw_all(self):
        self.js("window.dispatchEvent(new Event('beforeprint'))")
        self.wait(
            "[...document.querySelectorAll('.picture')].every(p => !p.offsetParent || p.querySelector('.main-svg'))"
        )
        self.js("window.dispatchEvent(new Event('afterprint'))")

    def column(self, name):
        """Texts of a column on the table's page, from the top."""
        names = self.js("[...document.querySelectorAll('#trials th .dt-column-title')].map(e => e.textContent)")
        cells = f"td:nth-child({names.index(name) + 1})"
        return self.js(f"[...document.querySelectorAll('#trials tbody {cells}')].map(e => e.textContent)")

    def sort_by(self, name):
        """Click a column's title, and wait until the table says that its order has changed."""
        headers = self.driver.find_elements(By.CSS_SELECTOR, "#trials thead th")
        header = next(header for header in headers if header.text == name)
        before = header.get_attribute("aria-sort")
        header.find_element(By.CSS_SELECTOR, ".dt-column-title").click()
        WebDriverWait(self.driver, 30).until(lambda _: header.get_attribute("aria-sort") != before)

    def n_lines(self, name):
        return self.js(f"document.querySelectorAll('#{name} .scatterlayer .trace .js-line').length")

    def errors(self):
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self):
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        return [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(sweep(), path)
    return path


@pytest.fixture
def page(driver, report) -> Page:
    return Page(driver, report)


def test_best_trials_are_first_and_diverged_ones_last_whichever_way_one_sorts(page):
    accuracy = [float(v) for v in page.column("validation accuracy")]
    assert accuracy == sorted(accuracy, reverse=True)
    page.sort_by("validation accuracy")
    rising = [float(v) for v in page.column("validation accuracy")]
    assert rising == sorted(rising)
    assert rising[0] < accuracy[0]
    assert set(page.column("status")) == {"finished"}
    assert [float(v) for v in page.column("test accuracy")] == pytest.approx([v - 0.01 for v in rising], abs=1e-5)
    assert "; its test accuracy: 0." in page.find("header").text
    page.sort_by("trial")
    assert page.column("trial") == [str(n) for n in range(10)]


def halved_results(results_of):
    """Results of a halving that stopped a trial whose seed was lucky at that epoch."""
    space = swept.grid(learning_rate=[0.1, 0.2, 0.3, 1e18, 1e20], seed=range(2))
    flat = dict(enumerate([0.8, 0.9, 0.99, 0.5, 0.9, 0.8]))
    outcomes = {n: {"validation_accuracy": v, "test_accuracy": v - 0.1} for n, v in flat.items()}
    outcomes |= {n: outcomes[n] | {"status": "stopped", "epochs": 1} for n in (2, 3)}
    outcomes |= {n: {"status": "diverged"} for n in range(6, 10)}
    return results_of(space, outcomes)


def test_the_report_names_the_setting_that_best_names_and_trials_stopped_by_halving_look_stopped(
    driver, tmp_path, results_of
):
    results = halved_results(results_of)
    write_report(results, tmp_path / "report.html")
    page = Page(driver, tmp_path / "report.html", 1400)
    best = results.best()
    words = page.find("header").text
    assert f"Best setting by validation accuracy: learning_rate = {best.hyperparameters['learning_rate']}, " in words
    assert f"with {best.mean:.4g} (95 %: {best.low:.4g} to {best.high:.4g}), the mean of 2 of 2 trials" in words
    assert "its test accuracy: 0.75 (95 %: " in words
    assert "1 other setting has the same mean: the first is named." in words
    assert "4 finished, 4 diverged, 2 stopped by halving" in words
    rows = page.js(
        "[...document.querySelectorAll('#settings tbody tr')].map(r => [...r.children].map(c => c.textContent))"
    )
    assert [row[0] for row in rows] == ["0.1", "0.3", "0.2", "1e18", "1e20"]
    assert [row[1] for row in rows] == ["0.85", "0.85", "–", "–", "–"]
    status = page.column("status")
    assert status == ["finished"] * 4 + ["stopped (halving)"] * 2 + ["diverged"] * 4
    assert page.column("trial")[:4] == ["1", "4", "0", "5"]  # of a tie the first
    chosen = page.js("[...document.querySelectorAll('#chips button')].map(b => b.textContent)")
    assert [text.split(" ")[1] for text in chosen] == ["1", "4"]
    page.draw_all()
    first = page.js("document.getElementById('each-0').data.map(t => [t.marker?.symbol, t.x])")[0]
    assert first == ["circle-open", [pytest.approx(math.log10(0.2))]]  # the stopped ones are no mean
    page.js("document.querySelectorAll('#settings tbody tr')[2].click()")
    page.wait("document.querySelectorAll('#chips button').length === 4")
    assert page.errors() == []


def test_the_status_is_not_cut_off_on_a_screen(driver, tmp_path):
    grid = {"learning_rate": [0.1, 1.0], "momentum": [0.0, 0.9], "weight_decay": [1e-5, 1e-4], "seed": [0, 1]}
    write_report(sweep(**grid), tmp_path / "report.html")
    page = Page(driver, tmp_path / "report.html", 1400)
    cell = "[...document.querySelectorAll('#trials thead th')].find(e => e.textContent.startsWith('status'))"
    right, edge = page.js(
        f"[{cell}.getBoundingClientRect().right, {cell}.closest('section').getBoundingClientRect().right]"
    )
    assert right < edge


def test_a_print_is_whole(driver, report):
    page = Page(driver, report, 1400)
    page.draw_all()
    widths = page.js(
        "(() => { window.dispatchEvent(new Event('beforeprint')); "
        "return [...document.querySelectorAll('.picture .main-svg')].map(e => e.clientWidth); })()"
    )
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        # The paper's width without its margins.
        driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": 1160, "height": 1674, "deviceScaleFactor": 1, "mobile": False},
        )
        edges = page.js(
            "[...document.querySelectorAll('.picture .main-svg, #settings, #trials')].map(e => "
            "e.closest('section').getBoundingClientRect().right - e.getBoundingClientRect().right)"
        )
        assert len(edges) > 5
        # They had this size when the event was over: the browser prints at once.
        assert widths == page.js("[...document.querySelectorAll('.picture .main-svg')].map(e => e.clientWidth)")
        assert min(edges) >= 0
        assert page.js("document.documentElement.scrollWidth") <= 1160
        assert page.js("getComputedStyle(document.querySelector('section')).breakInside") == "avoid"
    finally:
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
        page.js("window.dispatchEvent(new Event('afterprint'))")


def test_searching_hides_rows_and_takes_them_out_of_the_pictures(page):
    page.scroll_to("each-0")
    before = page.js("document.querySelectorAll('#each-0 .points path').length")
    page.find("input[type=search]").send_keys("16:16")
    page.wait("document.getElementById('shown').textContent.startsWith('12 of 24')")
    assert set(page.column("hidden")) == {"16:16"}
    page.scroll_to("each-0")
    page.wait(f"document.querySelectorAll('#each-0 .points path').length < {before}")


def test_a_column_is_filtered_by_number(page):
    page.driver.find_elements(By.CSS_SELECTOR, "#trials th .dtcc-button_dropdown")[2].click()
    page.find(".dtcc-dropdown input").send_keys("0.9")
    page.wait("document.getElementById('shown').textContent.startsWith('12 of 24')")
    assert set(page.column("momentum")) == {"0.9"}


def test_choosing_a_row_adds_its_curves_and_choosing_it_again_takes_them_away(page):
    page.scroll_to("losses")
    before = page.n_lines("losses")
    assert before == 5 * 2  # the best five: test and training
    row = page.find("#trials tbody tr:not(.selected) td:nth-child(2)")
    page.js("document.querySelector('#trials tbody').scrollIntoView({block: 'center'})")
    trial = row.text
    row.click()
    page.wait(f"document.querySelectorAll('#losses .js-line').length === {before + 2}")
    assert f"trial {trial} " in page.find("#chips").text
    row.click()
    page.wait(f"document.querySelectorAll('#losses .js-line').length === {before}")


def test_hovering_shows_a_label(page):
    page.scroll_to("losses")
    ActionChains(page.driver).move_to_element(page.find("#losses .points path")).perform()
    page.wait("document.querySelector('#losses .hovertext')")
    assert "epoch 1" in page.find("#losses .hovertext").text


def test_seeds_are_means_with_student_intervals(page):
    page.scroll_to("each-0")
    table = sweep().table().filter(pl.col("learning_rate") == 0.1, pl.col("momentum") == 0, pl.col("hidden") == "8")
    a, b = table["validation_accuracy"].to_list()
    trace = page.js(
        "document.getElementById('each-0').data.slice(0, 1).map(t => [[...t.y], [...t.error_y.array], t.text])"
    )
    y, up, text = trace[0]
    place = int(np.argmin(np.abs(np.array(y) - (a + b) / 2)))
    assert y[place] == pytest.approx((a + b) / 2)
    assert up[place] == pytest.approx(12.7062 * abs(a - b) / 2, rel=1e-4)  # t of 1 degree of freedom
    assert "of 2 trials" in text[place]


def test_diverged_trials_are_counted_and_crossed_not_dropped(page):
    page.draw_all()
    assert "16 finished, 8 diverged" in page.find("header").text
    assert page.js("document.getElementById('each-0').data.at(-1).hovertext") == ["8 of 8 trials diverged"]
    page.js("(() => { const s = document.getElementById('up'); s.value = 'hidden'; s.onchange(); })()")
    page.wait("document.querySelector('#map').layout.yaxis.title.text === 'hidden'")
    assert page.js("document.querySelector('#map').data[2].x.length") == 2  # a cross on every cell without a value
    assert page.js("document.getElementById('parallel').data[0].y.filter(v => v === null).length") == 8


def test_the_direction_of_the_metric_is_respected(page):
    page.draw_all()
    first, last = page.js("document.querySelector('#map').data[1].colorscale.map(stop => stop[1])")[
        :: len("viridis") + 1
    ]
    assert last == "#440154"  # on a light page the best is dark
    page.js("(() => { const s = document.getElementById('metric'); s.value = 'validation_loss'; s.onchange(); })()")
    page.wait("document.querySelector('#each-0').layout.yaxis.title.text === 'validation loss'")
    assert page.js("document.querySelector('#map').data[1].colorscale.at(-1)[1]") == first
    assert "lower" in page.js("document.getElementById('metric').selectedOptions[0].textContent")


def test_the_page_requests_nothing_and_logs_no_error(page):
    page.draw_all()
    assert page.errors() == []
    urls = page.requests()
    assert urls[0].startswith("file:")
    assert all(url.startswith(("file:", "blob:", "data:")) for url in urls[1:])
    assert page.js("document.querySelector('meta[http-equiv]').content").startswith("default-src 'none'")


@pytest.mark.parametrize("width", [390, 1366])
def test_nothing_is_wider_than_the_screen(driver, report, width):
    page = Page(driver, report, width)
    page.draw_all()
    assert page.js("document.documentElement.scrollWidth") <= width
    widths = page.js("[...document.querySelectorAll('.picture .main-svg')].map(e => e.getBoundingClientRect().right)")
    assert max(widths) <= width


def test_hostile_names_are_text_and_never_run(driver, tmp_path):
    grid = {"learning_rate": [0.1, 1.0], HOSTILE: HOSTILE_VALUES, "seed": [0, 1]}
    write_report(sweep(title=HOSTILE, **grid), tmp_path / "report.html")
    page = Page(driver, tmp_path / "report.html")
    page.draw_all()
    assert page.find("h1").text == HOSTILE == page.driver.title
    assert HOSTILE in page.js("[...document.querySelectorAll('#trials .dt-column-title')].map(e => e.textContent)")
    assert set(page.column(HOSTILE)) == set(HOSTILE_VALUES)
    assert page.js("document.querySelectorAll('main img, main script, main b').length") == 0
    label = page.js("document.querySelector('#each-1 .xtitle').textContent")
    assert label == HOSTILE
    assert page.errors() == []


def test_a_thousand_trials_make_a_page_of_rows_and_a_small_file(driver, tmp_path):
    grid = {"learning_rate": np.geomspace(1e-4, 1, 64).tolist(), "momentum": [0.0, 0.5, 0.9, 0.99], "seed": [*range(4)]}
    path = tmp_path / "report.html"
    write_report(sweep(epochs=50, **grid), path)
    assert path.stat().st_size < 4 * MEGABYTES
    page = Page(driver, path)
    assert page.js("document.querySelectorAll('#trials tbody tr').length") == 10
    assert not page.js("document.querySelector('#parallel .main-svg')")  # until it is scrolled to
    page.draw_all()
    # Lines that run side by side are one, and no interval hides another.
    assert page.js("document.getElementById('parallel').data.length") < 60
    n_points = (
        "document.getElementById('parallel').data.filter(t => t.mode === 'lines').reduce((n, t) => n + t.x.length, 0)"
    )
    assert page.js(n_points) < 1024
    assert page.js("document.getElementById('each-0').data[0].error_y.visible") is False
    page.find("input[type=search]").send_keys("diverged")
    page.wait("document.getElementById('shown').textContent.startsWith('16 of 1,024')")
    assert page.errors() == []


def never(row):
    return False


def always(row):
    return True


CASES = {
    "one trial": (sweep(never, learning_rate=[0.1], seed=[0]), "1 trial: 1 finished"),
    "everything diverged": (sweep(always), "None has a finite validation accuracy"),
    "no column of the metric": (sweep(always), "None has a finite validation accuracy"),
    "no validation data, nor seeds": (
        sweep(metric="train_loss", learning_rate=[0.01, 0.1, 1.0], momentum=[0.0, 0.9]),
        "there are no seeds",
    ),
    "one hyperparameter": (sweep(learning_rate=[0.01, 0.1, 1.0]), "too few, 10 are needed"),
    "missing values": (
        sweep(never, learning_rate=[0.1, 0.2], clip=[None, 1.0], text=["a", None]),
        "8 trials: 8 finished",
    ),
}
WITHOUT_VALIDATION = CASES["everything diverged"][0].table().drop("validation_accuracy", "validation_loss")
CASES["no column of the metric"][0].table = lambda: WITHOUT_VALIDATION


@pytest.mark.parametrize("case", CASES)
def test_the_page_of_few_results_says_so_and_has_no_errors(driver, tmp_path, case):
    results, words = CASES[case]
    write_report(results, tmp_path / "report.html")
    page = Page(driver, tmp_path / "report.html")
    page.draw_all()
    assert page.errors() == []
    text = page.find("body").text
    assert words in text
    n_varied = sum(results.table()[name].n_unique() > 1 for name in results.names if name != "seed")
    assert page.find("#map-section").is_displayed() == (n_varied > 1)
    assert page.find("#parallel-section").is_displayed() == (n_varied > 0)


@pytest.mark.parametrize("case", CASES)
def test_pictures_are_drawn_of_any_results(tmp_path, case):
    paths = write_pictures(CASES[case][0], tmp_path / "pictures")
    assert sorted(paths) == sorted((tmp_path / "pictures").iterdir())
    assert all(path.read_bytes()[1:4] == b"PNG" for path in paths)
    has_map = case not in {"one trial", "one hyperparameter"}
    assert ("heat_map.png" in {path.name for path in paths}) == has_map


def test_pictures_hold_hostile_names_as_text(tmp_path):
    grid = {"learning_rate": [0.1, 1.0], "$\\frac{": ["$x", "^_{$"], "seed": [0, 1]}
    assert len(write_pictures(sweep(title="$\\bad{$", **grid), tmp_path)) == 4


def test_importance_finds_what_matters_and_holds_seeds_together():
    results = sweep(
        never, learning_rate=[0.001, 0.01, 0.1, 1.0], momentum=[0.0, 0.5, 0.9], hidden=["8", "16"], seed=[0, 1]
    )
    found = importance(results.table(), results.names, "validation_accuracy")
    assert found.bars[0].name == "learning_rate"
    assert found.bars[0].drop > 0.5 > 0.1 > max(abs(bar.drop) for bar in found.bars[1:])
    assert found.r2 is not None
    assert "well" in found.words
    assert "seed" not in {bar.name for bar in found.bars}


def test_importance_of_noise_says_that_the_forest_predicts_poorly():
    noise = np.random.default_rng(0).normal(size=64)
    # A setting's number repeated for each of its seeds would be predicted, were seeds not held out together.
    columns = {"a": np.arange(32).repeat(2), "seed": np.tile([0, 1], 32), "validation_r2": noise[:32].repeat(2)}
    found = importance(pl.DataFrame(columns), ("a", "seed"), "validation_r2")
    assert found.r2 is not None
    assert found.r2 < 0.3
    assert "poorly" in found.words


def test_importance_of_few_settings_is_withheld_in_words():
    table = pl.DataFrame({"a": [0.1, 0.2, 0.3], "validation_loss": [1.0, 2.0, None]})
    found = importance(table, ("a",), "validation_loss")
    assert found.bars == []
    assert found.words == "2 settings with a value: too few, 10 are needed. 1 trial without a finite value: left out."


def test_no_trials_are_refused_before_anything_is_written(tmp_path):
    empty = SimpleNamespace(table=lambda: pl.DataFrame({"trial": []}), names=(), metric="validation_loss", title="")
    with pytest.raises(ValueError, match="at least one trial"):
        write_report(empty, tmp_path / "report.html")
    with pytest.raises(ValueError, match="at least one trial"):
        write_pictures(empty, tmp_path / "pictures")
    assert list(tmp_path.iterdir()) == []
