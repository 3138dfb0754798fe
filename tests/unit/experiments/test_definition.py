import pytest

from inferd.core.errors import ConfigError
from inferd.experiments.assignment import Assigner
from inferd.experiments.definition import Guardrail, Holdout, Metric, Namespace, Ramp, Shadow, Step, Targeting, Variant
from inferd.experiments.definition_toml import experiment_of, read_experiment, values_of


def test_a_definition_is_read_with_its_defaults(define):
    experiment = define()
    assert experiment.salt == experiment.id == "ranker-2"
    assert experiment.variants == (Variant("control", "ranker@1"), Variant("candidate", "ranker@2"))
    assert experiment.control.name == "control"
    assert experiment.shares == (0.5, 0.5)
    assert experiment.metrics == (Metric("converted", "proportion", column="converted", min_effect=0.05),)
    assert (experiment.coverage, experiment.mode, experiment.namespace) == (1.0, "fixed", None)


def test_every_part_of_a_definition_is_read(define):
    experiment = define(
        add="""
[namespace]
name = "home"
start = 0.25
end = 0.75
[holdout]
share = 0.1
[[targeting]]
header = "X-Country"
one_of = ["DE", "AT"]
[[guardrail]]
metric = "converted"
margin = 0.02
[analysis]
alpha = 0.1
correction = "benjamini-hochberg"
"""
    )
    assert experiment.namespace == Namespace("home", 0.25, 0.75)
    assert experiment.holdout == Holdout(0.1)
    assert experiment.targeting == (Targeting(("DE", "AT"), header="X-Country"),)
    assert experiment.guardrails[0].margin == 0.02
    assert (experiment.analysis.alpha, experiment.analysis.correction) == (0.1, "benjamini-hochberg")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("unit =", "units ="), "experiment.toml:3: unknown key 'units'; did you mean 'unit'?"),
        (("model =", "salt ="), "'model' is missing"),
        (("header:X-User-Id", "user"), ":3: unit takes header:NAME, cookie:NAME"),
        (("ranker-2", "a b"), ":1: id takes letters, digits"),
        (('name = "control"', 'names = "control"'), ":6: unknown key 'variant[0].names'; did you mean 'name'?"),
        (("ranker@1", "ranker@1@2"), ":7: variant[0].target takes model or model@version"),
        (('"candidate"', '"control"'), ":9: a second variant is named 'control'"),
        (('"ranker@2"', '"ranker@2"\nweight = 0'), ":12: variant[1].weight takes a number above 0"),
        (('"ranker@2"', '"ranker@2"\nweight = 1e-6'), "none of the 10000 buckets is its own"),
        (('kind = "proportion"', 'kind = "rate"'), ':15: metric[0].kind takes "mean" or "proportion"'),
        (('kind = "proportion"', 'kind = "ratio"'), "needs a denominator if, and only if, its kind is ratio"),
        (("min_effect = 0.05", "min_effect = nan"), "metric[0].min_effect takes a finite number"),
        (("min_effect = 0.05", "baseline = 2"), "baseline of a proportion lies between 0 and 1"),
        (('kind = "proportion"', 'kind = "quantile"\ncovariate = "x"'), "cannot sharpen a quantile"),
    ],
)
def test_a_mistake_is_refused_with_its_line(define, change, says):
    with pytest.raises(ConfigError) as refused:
        define(*change)
    assert says in refused.value.message


@pytest.mark.parametrize(
    ("addition", "says"),
    [
        ("[namespace]\nname = 'a'\nstart = 0.5\nend = 0.5\n", "is empty: start 0.5 is not below end 0.5"),
        ("[holdout]\nshare = 1.5\n", "holdout.share takes a number from 0 to 1, got 1.5"),
        ("[holdout]\nname = 'g'\n", "holdout lacks 'share'"),
        ("[[targeting]]\none_of = ['DE']\n", "names either a header or an attribute"),
        ("[[targeting]]\nheader = 'X'\none_of = []\n", "nobody would take part"),
        ("[targeting]\nheader = 'X'\n", "targeting is written [[targeting]]"),
        ("[[guardrail]]\nmetric = 'convertd'\nmargin = 0.1\n", "is no metric: 'convertd'; did you mean 'converted'?"),
        ("[[guardrail]]\nmetric = 'error'\n", "guardrail[0] gives either a margin, relative to control, or a limit"),
        ("[[guardrail]]\nmetric = 'error'\nmargin = 0.1\nlimit = 0.1\n", "gives either a margin"),
        ("[[step]]\ncoverage = 0.1\n", 'step goes with mode = "ramp"'),
        ("[ramp]\nlabel = 'stable'\n", 'ramp goes with mode = "ramp"'),
        ("[analysis]\nalpha = 0.9\n", "analysis.alpha takes a number from 1e-06 to 0.5"),
        ("[analysis]\ncorrection = 'bonferroni'\n", 'analysis.correction takes "holm" or "benjamini-hochberg"'),
    ],
)
def test_a_mistake_in_an_optional_part_is_refused(define, addition, says):
    with pytest.raises(ConfigError) as refused:
        define(add=addition)
    assert says in refused.value.message


def test_an_unknown_mode_is_refused_with_those_there_are(define):
    with pytest.raises(ConfigError, match=':1: mode takes "fixed" or "ramp" or "shadow"'):
        define('id = "ranker-2"', 'mode = "fixd"\nid = "ranker-2"')


def test_one_variant_is_no_experiment(define):
    with pytest.raises(ConfigError, match="at least two variants"):
        define('[[variant]]\nname = "candidate"\ntarget = "ranker@2"\n')


RAMP = """
[ramp]
label = "stable"
webhook = "https://example.org/hook"
[[step]]
coverage = 0.05
minutes = 10
[[step]]
coverage = 0.5
units = 400
[[guardrail]]
metric = "error"
limit = 0.05
action = "hold"
"""


def ramp(define, old="", new="", add=RAMP):
    return define('id = "ranker-2"', 'mode = "ramp"\nid = "ranker-2"', add.replace(old, new, 1) if old else add)


def test_a_ramp_is_read_with_its_steps(define):
    experiment = ramp(define)
    assert experiment.ramp == Ramp(label="stable", webhook="https://example.org/hook")
    assert experiment.steps == (Step(0.05, minutes=10), Step(0.5, units=400))
    assert experiment.guardrails == (Guardrail("error", limit=0.05, action="hold"),)
    assert experiment_of(values_of(experiment)) == experiment


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("coverage = 0.5", "coverage = 0.05"), "step[1].coverage must be above the step before, 0.05"),
        (('label = "stable"', 'label = "7"'), "ramp.label takes letters"),
        (("https://example", "ftp://example"), "ramp.webhook takes an http:// or https:// URL"),
        (("minutes = 10", "minutes = -1"), "step[0].minutes takes a number from 0"),
        (('[ramp]\nlabel = "stable"', '[[variant]]\nname = "x"\ntarget = "m"\n[ramp]\n'), "variant of a ramp are two"),
        (("action =", "act ="), "unknown key 'guardrail[0].act'; did you mean 'action'?"),
    ],
)
def test_a_wrong_ramp_is_refused(define, change, says):
    with pytest.raises(ConfigError) as refused:
        ramp(define, *change)
    assert says in refused.value.message


def test_a_ramp_needs_steps_and_its_coverage_is_theirs(define):
    with pytest.raises(ConfigError, match="needs \\[\\[step\\]\\]s"):
        ramp(define, add="")
    with pytest.raises(ConfigError, match="said by its steps; leave it out"):
        define('id = "ranker-2"', 'mode = "ramp"\ncoverage = 0.1\nid = "ranker-2"', RAMP)


SHADOW = """\
id = "ranker-2"
model = "ranker"
mode = "shadow"
[[variant]]
name = "control"
target = "ranker@1"
[[variant]]
name = "candidate"
target = "ranker@2"
[[variant]]
name = "another"
target = "ranker@3"
"""


@pytest.fixture
def shadow(tmp_path):
    """The experiment with ``add`` at its end, after ``old`` has become ``new``."""

    def shadow(old="", new="", add=""):
        path = tmp_path / "shadow.toml"
        path.write_text((SHADOW.replace(old, new, 1) if old else SHADOW) + add)
        return read_experiment(path)

    return shadow


def test_a_shadow_needs_no_unit_and_control_has_everyone(shadow):
    experiment = shadow()
    assert (experiment.unit, experiment.shadow) == ("request-id", Shadow())
    assert experiment.shares == (1.0, 0.0, 0.0)
    assert {Assigner(experiment).assign(str(unit)).variant.name for unit in range(50)} == {"control"}
    assert experiment_of(values_of(experiment)) == experiment


def test_the_settings_of_a_shadow_are_read_in_every_mode(shadow, define):
    table = """
[shadow]
sample = 0.1
max_concurrency = 2
rtol = 0
atol = 1e-6
top_k = 3
keep = 0
redact = ["name"]
"""
    expected = Shadow(0.1, 2, 0.0, 1e-6, 3, 0, ("name",))
    assert shadow(add=table).shadow == expected
    assert define(add=table).shadow == expected
    assert define().shadow is None


@pytest.mark.parametrize(
    ("old", "new", "add", "says"),
    [
        ("", "", "[shadow]\nsample = 0\n", "shadow.sample takes a number above 0 to 1, got 0"),
        ("", "", "[shadow]\nmax_concurrency = 0\n", "shadow.max_concurrency takes a number from 1"),
        ("", "", "[shadow]\nkeep = -1\n", "shadow.keep takes a number from 0"),
        ("", "", "[shadow]\ntop_k = 0\n", "shadow.top_k takes a number from 1"),
        ("", "", "[shadow]\nredact = 'x'\n", "shadow.redact takes"),
        ("", "", "[shadow]\nkept = 1\n", "unknown key 'shadow.kept'; did you mean 'keep'?"),
        ("", "", "[[metric]]\nname = 'a'\nkind = 'mean'\n", "metric measures what callers do, and they see no shadow"),
        ("", "", "[[guardrail]]\nmetric = 'error'\nlimit = 0.1\n", "guardrail measures what callers do"),
        ('"ranker@1"', '"ranker@1"\nweight = 2', "", "variant[0].weight says nothing of a shadow"),
        ("", "", "[ramp]\n", 'ramp goes with mode = "ramp"'),
    ],
)
def test_a_wrong_shadow_is_refused(shadow, old, new, add, says):
    with pytest.raises(ConfigError) as refused:
        shadow(old, new, add)
    assert says in refused.value.message


RAIL = '[[guardrail]]\nmetric = "disagreement"\n'


def test_how_often_a_variant_disagrees_with_control_may_be_guarded_where_it_is_known(define):
    assert define(add=f"{RAIL}limit = 0.1\n[shadow]\n").guardrails == (Guardrail("disagreement", limit=0.1),)
    with pytest.raises(ConfigError, match="is no metric: 'disagreement'"):
        define(add=f"{RAIL}limit = 0.1\n")
    with pytest.raises(ConfigError, match="control has no part; give a limit"):
        define(add=f"{RAIL}margin = 0.1\n[shadow]\n")
