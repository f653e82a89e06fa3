"""`Generate`: the same bits everywhere, and values with the model's probabilities."""

import math
import random

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.transforms.window import FixedWindows, Sessions, TimestampedValue

from beam_rnn import Bptt, Columns, Generate, KeyedModels, Network, Training
from beam_rnn.data.scaling import Scaler, Scaling
from beam_rnn.errors import ConfigurationError
from beam_rnn.models import generator as generation
from beam_rnn.models.generator import Generation, Generator, Prompt
from beam_rnn.models.model import Model
from beam_rnn.nn.sampling import draw_between, draw_class, draw_each, draw_gaussian
from beam_rnn.optim import Adam
from beam_rnn.testing import oracle
from beam_rnn.training.fit import fit_sequences
from beam_rnn.transforms import generate_dofn as prompting
from tests.helpers.engines import Collect, Outputs, predict, prism, run
from tests.helpers.models import saved
from tests.models.test_symbols import sequences_of

LETTERS = Columns(
    key="id",
    time="t",
    symbols=["c"],
    targets=["c"],
    classes=list("abc."),
    vocabularies={"c": list("abc.")},
)
PLACES = Columns(key="id", time="t", inputs=["c"], targets=["c"], classes=[0, 10, 20])
MARKS = Columns(key="id", time="t", inputs=["notes"], vectors={"notes": 3})
NUMBERS = Columns(key="id", time="t", inputs=["x", "y"], targets=["y", "x"])
NETWORKS = {
    "letters": (LETTERS, Network("gru", hidden=6, embedding=3, output="softmax")),
    "places": (PLACES, Network("lstm", hidden=6, output="softmax")),
    "marks": (MARKS, Network("gru", hidden=(5, 4), output="sigmoid")),
    "one of": (MARKS, Network("gru", hidden=5, output="softmax")),
    "numbers": (NUMBERS, Network("rnn", hidden=6, output="identity")),
    "gaussian": (NUMBERS, Network("gru", hidden=6, output="gaussian")),
    "quantiles": (NUMBERS, Network("gru", hidden=6, output="quantiles")),
}
CHANCE = [case for case in NETWORKS if case != "numbers"]
FIELDS = {
    "c": lambda t, columns: "abc"[t % 3] if columns.symbols else 10 * (t % 3),
    "notes": lambda t, _: [t % 2, 1, 0],
    "x": lambda t, _: 3.0 + math.sin(t),
    "y": lambda t, _: 200.0 + 10 * math.cos(t),
}


def model_of(case, seed=0):
    """A model of random weights, so that each output depends on all that came before."""
    columns, network = NETWORKS[case]
    outputs = columns.target_size * len(network.parts)
    source = np.random.default_rng(seed)
    parameters = {
        name: (value + 0.5 * source.standard_normal(value.shape)).astype(np.float32)
        for name, value in network.initialize(
            columns.input_size, outputs, seed, symbols=columns.vocabulary_sizes
        ).items()
    }
    scaler = None
    if case in ("numbers", "gaussian", "quantiles"):
        keys = {key: Scaling(*np.array([[3.0, 200], [1, 7], [200, 3], [7, 1]]) + i)
                for i, key in enumerate("ab")}  # fmt: skip
        scaler = Scaler(keys["a"], {key: Scaling(*each) for key, each in keys.items()})
    return Model(network, parameters, columns, scaler)


def prompts(case, keys="abc"):
    columns, _ = NETWORKS[case]
    names = {*columns.inputs, *columns.symbols}
    return [
        {"id": key, "t": t} | {name: FIELDS[name](t + i, columns) for name in names}
        for i, key in enumerate(keys)
        for t in range(2 + 3 * i)
    ]


def rows(transform, records, engine="fnapi"):
    built = predict(transform, records, engine)
    assert built.invalid == []
    return sorted(map(repr, built.generated))


@pytest.mark.parametrize("case", NETWORKS)
def test_the_same_bits_in_any_order_bundle_batch_and_runner(case, tmp_path):
    weights = saved(model_of(case), tmp_path)
    samples = 1 if case == "numbers" else 3
    generate = Generate(weights, 9, samples=samples, seed=4)
    records = prompts(case)
    expected = rows(generate, records)
    assert len(expected) == 3 * samples

    again = records * 2
    random.Random(0).shuffle(again)
    assert rows(generate, again, "bundle_based") == expected
    alone = [rows(generate, [r for r in records if r["id"] in keys]) for keys in ("b", "ca")]
    assert sorted(row for of_keys in alone for row in of_keys) == expected


def test_the_same_bits_through_workers_of_a_portable_runner(tmp_path):
    generate = Generate(saved(model_of("gaussian"), tmp_path), 9, samples=3)
    records = prompts("gaussian")
    assert rows(generate, records[::-1], "embed") == rows(generate, records)


def test_the_batch_size_does_not_affect_generation(tmp_path, monkeypatch):
    generate = Generate(saved(model_of("gaussian"), tmp_path), 9, samples=5)
    expected = rows(generate, prompts("gaussian"))
    monkeypatch.setattr(prompting, "RECORDS_HELD_AT_MOST", 3)
    monkeypatch.setattr(generation, "ROWS_AT_MOST", 2)
    assert rows(generate, prompts("gaussian")) == expected
    monkeypatch.setattr(generation, "NUMBERS_AT_MOST", 1)
    assert rows(generate, prompts("gaussian")) == expected


@pytest.mark.parametrize("case", NETWORKS)
def test_generation_depends_on_seed_key_and_sample(case, tmp_path):
    weights = saved(model_of(case), tmp_path)
    records = [record | {"id": key} for record in prompts(case, "a") for key in ("u", "v")]
    samples = 1 if case == "numbers" else 2
    written = [
        (row.key, row.sample, repr((row.values, row.symbols)))
        for seed in (0, 1)
        for row in predict(Generate(weights, 20, samples=samples, seed=seed), records).generated
    ]
    different = {said for _, _, said in written}
    assert len(different) == (1 if case == "numbers" else len(written) == 8 and 8)


@pytest.mark.parametrize("case", ["numbers", "marks", "letters", "gaussian"])
def test_greedy_generation_feeds_back_its_own_forecasts(case, tmp_path):
    model = model_of(case)
    weights = saved(model, tmp_path)
    (row,) = predict(Generate(weights, 6, temperature=0), prompts(case, "a")).generated
    records = prompts(case, "a")
    for _ in range(6):
        outputs = np.array(oracle(model, records).predictions[-1].outputs)
        if case == "letters":
            following = {"c": LETTERS.classes[outputs.argmax()]}
        elif case == "marks":
            following = {"notes": (outputs > 0.5).astype(float).tolist()}
        else:
            y, x = outputs[:: len(model.network.parts)]
            following = {"x": x, "y": y}
        records.append({"id": "a", "t": len(records)} | following)
    said = {
        "letters": lambda r: r["c"],
        "marks": lambda r: r["notes"],
        "numbers": lambda r: [r["y"], r["x"]],
    }
    of_record = said.get(case, said["numbers"])
    assert list(row.symbols or row.values) == [of_record(r) for r in records[-6:]]


@pytest.mark.parametrize("case", ["letters", "places", "one of"])
def test_sampling_with_top_k_1_is_greedy(case, tmp_path):
    weights = saved(model_of(case), tmp_path)
    greedy = Generate(weights, 12, temperature=0)
    assert rows(Generate(weights, 12, top_k=1, temperature=1.7), prompts(case)) == rows(
        greedy, prompts(case)
    )


def written(model, n=20_000, **how):
    """The first step of many sequences after one prompt, and what the network says of it."""
    columns = model.columns
    prompt = Prompt("a", np.array([0]), np.ones((1, columns.number_size)))
    generator = Generator(model, Generation(**{"length": 1, "samples": n} | how))
    said = generator.read([prompt]).outputs[0]
    return np.array([each.values[0] for each in generator.generate([prompt])]), said


@pytest.mark.parametrize(
    "how", [{}, {"temperature": 0.5}, {"temperature": 2}, {"top_k": 2}], ids=str
)
def test_classes_are_drawn_as_often_as_the_network_says(how):
    drawn, said = written(model_of("letters"), **how)
    p = said[:, 0] ** (1 / how.get("temperature", 1))
    if "top_k" in how:
        p[p < np.sort(p)[-2]] = 0
    p /= p.sum()
    seen = np.bincount(drawn, minlength=4)
    assert (seen[p == 0] == 0).all()
    expected = len(drawn) * p[p > 0]
    chi_square = ((seen[p > 0] - expected) ** 2 / expected).sum()
    assert chi_square < 16.27  # 0.999 of 3 degrees of freedom


def test_marks_are_drawn_each_by_itself():
    drawn, said = written(model_of("marks"))
    p = said[:, 0]
    deviation = np.sqrt(p * (1 - p) / len(drawn))
    assert (np.abs(drawn.mean(0) - p) < 4 * deviation).all()
    between = np.corrcoef(drawn.T)[np.triu_indices(3, 1)]
    assert (np.abs(between) < 4 / math.sqrt(len(drawn))).all()


@pytest.mark.parametrize("temperature", [1.0, 0.25])
def test_numbers_are_drawn_from_mean_and_deviation(temperature):
    drawn, said = written(model_of("gaussian"), temperature=temperature)
    mean, deviation = said.T
    deviation = deviation * math.sqrt(temperature)
    scores = (drawn - mean) / deviation
    n = len(drawn)
    assert (np.abs(scores.mean(0)) < 4 / math.sqrt(n)).all()
    assert (np.abs(scores.var(0) - 1) < 4 * math.sqrt(2 / n)).all()
    assert (np.abs((scores**3).mean(0)) < 4 * math.sqrt(15 / n)).all()


def test_numbers_lie_between_the_quantiles_as_often_as_these_say():
    drawn, said = written(model_of("quantiles"))
    for level, at in zip((0.1, 0.5, 0.9), np.sort(said, 1).T, strict=True):
        below = (drawn < at).mean(0)
        assert (np.abs(below - level) < 4 * math.sqrt(level * (1 - level) / len(drawn))).all()
    assert (written(model_of("quantiles"), n=1, temperature=0)[0] == np.sort(said, 1)[:, 1]).all()


def test_quantiles_of_a_normal_distribution_cool_as_it_does():
    levels = tuple(np.linspace(0.02, 0.98, 49))
    u = np.linspace(0.01, 0.99, 50)[np.newaxis]
    normal = np.array([[[draw_gaussian(np.zeros((1, 1)), np.ones((1, 1)), np.array([[q]]))[0][0, 0]
                         for q in levels]]])  # fmt: skip
    drawn = draw_between(np.repeat(normal, 50, 1), levels, u, 0.5)
    exact, _ = draw_gaussian(np.zeros((1, 50)), np.ones((1, 50)), u, 0.5)
    np.testing.assert_allclose(drawn, exact, atol=0.01)
    assert draw_between(normal, levels, np.array([[0.2]]), 0)[0, 0] == 0


def test_the_log_probability_of_a_drawn_value():
    p = np.array([[0.5, 0.2, 0.3]])
    (drawn,), (log_p,) = draw_class(p, np.array([0.6]), temperature=0.3)
    assert (drawn, log_p) == (0, math.log(0.5))
    marks, log_p = draw_each(np.array([[0.25, 0.5]]), np.array([[0.3, 0.4]]))
    assert marks.tolist() == [[0, 1]]
    assert log_p[0] == pytest.approx(math.log(0.75) + math.log(0.5))
    _, log_p = draw_gaussian(np.array([[7.0]]), np.array([[2.0]]), np.array([[0.5]]))
    assert log_p[0] == pytest.approx(-math.log(2 * math.sqrt(2 * math.pi)))


@pytest.mark.parametrize("n", [2, 3, 8, 33, 90])
def test_a_row_is_drawn_with_the_same_bits_in_every_batch(n):
    source = np.random.default_rng(n)
    logits, u = source.normal(0, 4, (35, n)), source.random((35, n))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    quantiles = np.sort(source.normal(0, 1, (35, n, 4)), -1)

    def drawn(at):
        yield from draw_class(p[at], u[at, 0], 0.7, n - 1)
        yield from draw_each(p[at], u[at], 1.3)
        yield from draw_gaussian(logits[at], p[at] + 0.1, u[at], 0.7)
        yield draw_between(quantiles[at], (0.1, 0.4, 0.5, 0.9), u[at], 0.7)

    for at in [*map(slice, range(35), range(1, 36)), slice(5, 12), slice(1, 34, 2)]:
        for whole, part in zip(drawn(slice(None)), drawn(at), strict=True):
            assert whole[at].tobytes() == part.tobytes()


@pytest.mark.parametrize("u", [2.0**-53, 0.5, 1 - 2.0**-53])
def test_no_class_without_a_probability_is_drawn(u):
    p = np.array([[0.0, 0.1, 0.2, 0.7, 0.0]])
    (drawn,), _ = draw_class(p, np.array([u]))
    assert p[0, drawn] > 0


def learned(columns, network, records):
    training = Training(
        epochs=80, scaler="none", optimizer=Adam(2e-2), bptt=Bptt(steps=20), batch_size=4
    )
    return fit_sequences(network, sequences_of(records, columns), training)


def songs(n=8, length=10):
    """Each begins somewhere in a, b, c, goes round, and ends with a stop."""
    for i in range(n):
        for t in range(length):
            yield {"id": str(i), "t": t, "c": "abc"[(i + t) % 3] if t < length - 1 else "."}


@pytest.fixture(scope="module")
def singer():
    return learned(LETTERS, Network("gru", hidden=12, embedding=4, output="softmax"), list(songs()))


def test_generation_continues_a_learned_pattern_until_the_stop(singer, tmp_path):
    weights = saved(singer, tmp_path)
    records = [{"id": "p", "t": 0, "c": "b"}, {"id": "p", "t": 1, "c": "c"},
               {"id": "q", "t": 0, "c": "a"}]  # fmt: skip
    made = {row.key: row for row in predict(
        Generate(weights, 30, stop=".", temperature=0), records).generated}  # fmt: skip
    assert "".join(made["p"].symbols) == "abcabca"
    assert "".join(made["q"].symbols) == "bcabcabc"
    assert {row.reason for row in made.values()} == {"stop"}
    assert made["p"].event_time == 1
    cut = predict(Generate(weights, 4, stop=".", temperature=0), records[:2]).generated
    assert ("".join(cut[0].symbols), cut[0].reason) == ("abca", "length")


def test_the_probability_is_that_of_all_that_was_drawn_and_the_stop(singer):
    columns = singer.columns
    prompt = Prompt("p", np.array([0]), np.array([[1.0]]))
    (made,) = Generator(singer, Generation(30, ".", temperature=0)).generate([prompt])
    drawn = [*made.values, columns.classes.index(".")]
    x = np.array([[1.0, *(v + 1 for v in made.values)]], np.float32)[..., np.newaxis]
    p = singer.forward(x)[0, np.arange(len(drawn)), drawn].astype(float)
    assert made.log_probability == pytest.approx(np.log(p).sum(), abs=1e-9)


def test_a_vector_of_marks_continues_the_trained_pattern(tmp_path):
    pattern = [[1, 0, 0], [0, 1, 0], [0, 1, 1], [0, 0, 0]]
    records = [{"id": "a", "t": t, "notes": pattern[t % 4]} for t in range(80)]
    model = learned(MARKS, Network("gru", hidden=12, output="sigmoid"), records)
    made = predict(Generate(saved(model, tmp_path), 8, temperature=0), records[:40]).generated
    assert made[0].values == [pattern[t % 4] for t in range(40, 48)]


def test_each_sequence_ends_at_its_own_stop(singer):
    prompt = [Prompt(key, np.array([0]), np.array([[1.0]])) for key in "pq"]
    how = Generation(30, ".", temperature=1.5, samples=40)
    together = list(Generator(singer, how).generate(prompt))
    assert len({len(each.values) for each in together}) > 3
    for key, sample in (("q", 7), ("p", 40)):
        here = [e for e in together if (e.prompt, e.sample) == ("pq".index(key), sample)]
        alone = Generator(singer, Generation(30, ".", temperature=1.5, samples=sample))
        (last,) = [e for e in alone.generate([prompt["pq".index(key)]]) if e.sample == sample]
        assert here[0].values.tolist() == last.values.tolist()
        assert here[0].log_probability == last.log_probability


def test_the_calendar_goes_on_and_what_is_static_stays(tmp_path):
    columns = Columns(
        key="id", time="t", inputs=["x"], static=["size"], calendar=["day"], missing="carry"
    )
    network = Network("gru", hidden=5)
    source = np.random.default_rng(1)
    parameters = {
        name: (value + 0.4 * source.standard_normal(value.shape)).astype(np.float32)
        for name, value in network.initialize(columns.input_size, 1, 0).items()
    }
    model = Model(network, parameters, columns)
    weights = saved(model, tmp_path)
    hour = 3600
    records = [{"id": "a", "t": hour * t, "x": 0.5 * t, "size": 2.0} for t in range(3)]
    records[1]["x"] = None
    (row,) = predict(Generate(weights, 30, every=hour), records).generated
    for t, (x,) in enumerate(row.values, 3):
        said = oracle(model, records).predictions[-1].outputs
        assert said == [x]
        records.append({"id": "a", "t": hour * t, "x": x, "size": 2.0})
        if t > 6:
            break
    (slower,) = predict(Generate(weights, 30, every=2 * hour), records[:3]).generated
    assert row.values[0] == slower.values[0]
    assert row.values[1] != slower.values[1]
    assert row.log_probability is None


def test_bad_records_of_a_prompt_are_dead_letters(tmp_path):
    weights = saved(model_of("numbers"), tmp_path)
    good = prompts("numbers", "a")
    bad = [good[0] | {"x": "n/a"}, good[0] | {"x": 1e200, "t": 9}, {"id": "z", "t": 0, "x": 1e300,
           "y": 0.0}]  # fmt: skip
    made = predict(Generate(weights, 4), [*good, *bad])
    assert [(letter.key, letter.reason) for letter in sorted(made.invalid)] == [
        ("a", "the step overflowed; the state before it was kept"),
        ("a", "x must be a number"),
        ("z", "the step overflowed; the state before it was kept"),
    ]
    assert [repr(row) for row in made.generated] == rows(Generate(weights, 4), good)


def test_a_sequence_that_leaves_the_range_of_numbers_is_a_dead_letter(tmp_path):
    columns = Columns(key="id", time="t", inputs=["x"])
    network = Network("rnn", hidden=1, activation="relu")
    parameters = {
        name: np.full(shape, 1e3, np.float32) for name, shape in network.shapes(1, 1).items()
    }
    weights = saved(Model(network, parameters, columns), tmp_path)
    made = predict(Generate(weights, 50), [{"id": "a", "t": 0, "x": 1.0}])
    assert made.generated == []
    assert made.invalid[0].reason.startswith("the step overflowed after ")


def test_each_key_has_its_own_model(tmp_path):
    models = {key: model_of("letters", seed) for seed, key in enumerate("ab")}
    weights = saved(KeyedModels.gathered(models), tmp_path)
    made = predict(Generate(weights, 5), prompts("letters"))
    assert {row.key: row.model for row in made.generated} == {
        k: m.digest for k, m in models.items()
    }
    assert [letter.reason for letter in made.invalid] == [
        "the key has no model, and there is no fallback"
    ] * 8  # fmt: skip
    alone = predict(Generate(saved(models["b"], tmp_path), 5), prompts("letters", " b")[2:])
    assert [row.symbols for row in alone.generated] == [
        row.symbols for row in made.generated if row.key == "b"
    ]


def test_a_prompt_is_the_last_sequence_of_marked_ones(tmp_path):
    columns = Columns(
        key="id", time="t", symbols=["c"], targets=["c"], classes=list("abc."),
        vocabularies={"c": list("abc.")}, start="first",
    )  # fmt: skip
    model = model_of("letters")
    weights = saved(Model(model.network, model.parameters, columns), tmp_path)
    records = [r | {"first": r["t"] == 3} for r in prompts("letters", "abc") if r["id"] == "c"]
    (row,) = predict(Generate(weights, 6), records).generated
    (last,) = predict(Generate(weights, 6), records[3:]).generated
    (whole,) = predict(Generate(weights, 6), [r | {"first": False} for r in records]).generated
    assert row == last
    assert row.log_probability != whole.log_probability


@pytest.mark.parametrize(
    ("engine", "windows", "ends"),
    [
        ("fnapi", FixedWindows(10), [10, 20]),
        ("fnapi", Sessions(5), [6, 19]),
        ("bundle_based", FixedWindows(10), [10, 20]),
        ("embed", Sessions(5), [6, 19]),
        pytest.param("prism", FixedWindows(10), [10, 20], marks=prism),
        pytest.param("prism", Sessions(5), [6, 19], marks=prism),
    ],
    ids=[
        "fixed",
        "sessions",
        "fixed bundle-based",
        "sessions portable",
        "fixed Prism",
        "sessions Prism",
    ],
)
def test_each_window_is_a_prompt(engine, windows, ends, tmp_path):
    groups = (0, 1), (12, 13, 14)
    weights = saved(model_of("letters"), tmp_path)
    records = [{"id": "a", "t": t, "c": "abc"[t % 3]} for group in groups for t in group]

    def build(p):
        stamped = (
            p
            | beam.Create(records, reshuffle=False)
            | beam.Map(lambda r: TimestampedValue(r, r["t"]))
            | beam.WindowInto(windows)
        )
        outputs = stamped | Generate(weights, 7)
        collect = Collect()
        _ = (
            outputs.generated
            | beam.Map(lambda row, window=beam.DoFn.WindowParam: (row, int(window.end)))
            | collect
        )
        return collect, Outputs(outputs)

    (collect, _), _ = run(build, engine)
    expected = [
        predict(Generate(weights, 7), [r for r in records if r["t"] in group]).generated[0]
        for group in groups
    ]
    made = sorted(collect.elements, key=lambda each: each[1])
    assert [row for row, _ in made] == expected
    assert [end for _, end in made] == ends


X = {"key": "id", "time": "t"}
REFUSED = {
    "bidirectional": (NUMBERS, Network(bidirectional=True), {}, "bidirectional=True"),
    "last": (NUMBERS, Network(output_steps="last"), {}, "output_steps='last'"),
    "carry": (NUMBERS, Network(carry=False), {}, "carry=False"),
    "horizon": (Columns(inputs=["x"], horizon=2, **X), Network(), {}, "horizon=2"),
    "horizons": (
        Columns(inputs=["x"], horizon=(0, 2), **X), Network(horizons=2), {}, r"horizon=\(0, 2\)"
    ),
    "input": (Columns(inputs=["x", "z"], targets=["x"], **X), Network(), {}, r"\['z'\] are no t"),
    "symbol": (
        Columns(inputs=["x"], symbols=["s"], targets=["x"], vocabularies={"s": "ab"}, **X),
        Network(embedding=2), {}, r"\['s'\] are no targets",
    ),
    "number": (
        Columns(symbols=["s"], targets=["s"], vocabularies={"s": ["1", "2"]}, **X),
        Network(embedding=2), {}, r"\['s'\] are predicted as numbers",
    ),
    "texts": (
        Columns(inputs=["s"], targets=["s"], classes=["a", 1], **X),
        Network(output="softmax"), {}, r"the classes \['a'\] are no numbers",
    ),
    "calendar": (Columns(inputs=["x"], calendar=["day"], **X), Network(), {}, r"=\['day'\]"),
    "stop": (*NETWORKS["letters"], {"stop": "z"}, r"\['a', 'b', 'c', '.'\], got z"),
    "no stop": (*NETWORKS["numbers"], {"stop": 1}, r"one of the classes \[\], got 1"),
    "top_k": (*NETWORKS["marks"], {"top_k": 3}, "top_k=3 and output='sigmoid'"),
    "samples": (*NETWORKS["numbers"], {"samples": 2}, "samples=2 would all be the same"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_model_that_cannot_generate_is_refused_at_once_and_by_the_worker(case, tmp_path):
    columns, network, how, message = REFUSED[case]
    outputs = columns.target_size * len(network.parts) * network.horizons
    parameters = network.initialize(
        columns.input_size, outputs, 0, symbols=columns.vocabulary_sizes
    )
    weights = saved(Model(network, parameters, columns), tmp_path)
    with pytest.raises(ConfigurationError, match=message):
        Generate(weights, 5, **how)
    pattern = f"{tmp_path}/*.arrow"  # is read by the worker
    message = "bidirectional network" if case == "bidirectional" else message
    with pytest.raises(Exception, match=message):
        predict(Generate(pattern, 5, **how), [{}])


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"length": 0}, "length must be a whole number of at least 1, got 0"),
        ({"length": 5.0}, "length must be a whole number of at least 1, got 5.0"),
        ({"samples": 0}, "samples must be a whole number of at least 1, got 0"),
        ({"seed": -1}, "seed must be a whole number of at least 0, got -1"),
        ({"temperature": -0.5}, r"temperature must be in \[0, inf\), got -0.5"),
        ({"temperature": math.nan}, "temperature must be in"),
        ({"top_k": 0}, "top_k must be a whole number of at least 1, got 0"),
        ({"stop": 1.5}, "stop must be a class, got 1.5"),
        ({"every": 0}, "got every=0"),
        ({"every": 1e9}, "got every=1000000000.0"),
        ({"temperature": 0, "samples": 2}, "samples=2 would all be the same"),
        ({"top_k": 1, "samples": 2}, "samples=2 would all be the same"),
        ({"kernel": "gpu"}, "kernel must be one of auto, numpy, fused, got 'gpu'"),
        ({"weights": 7}, "weights must be the path of a file, got 7"),
    ],
    ids=str,
)
def test_a_value_outside_its_range_is_refused(how, message):
    with pytest.raises(ConfigurationError, match=message):
        Generate(**{"weights": "w.arrow", "length": 5} | how)
