"""The pipelines for music and text: their files, and what they generate after training."""

import json
from pathlib import Path

import mido
import pytest

from beam_rnn import Model, Network, weights
from beam_rnn.errors import ConfigurationError
from benchmarks import composed
from pipelines import compose, music, write

ROOT = Path(__file__).parents[2]
CHORALES = ROOT.parent / "shared" / "data" / "jsb-chorales-quarter.json"

BARS = [
    [[48, 55, 64, 72], [48, 57, 65, 72], [43, 59, 62, 74], [48, 55, 64, 72]],
    [[45, 57, 60, 76], [50, 57, 62, 77], [43, 59, 62, 74], [48, 55, 64, 72]],
]
SONG = BARS[0] + BARS[1] + [[], [60], [60]]


def moved(chords, by):
    return [[pitch + by for pitch in chord] for chord in chords]


def test_a_midi_file_holds_the_notes_that_stay(tmp_path):
    path = str(tmp_path / "song.mid")
    music.write_midi(SONG, path, tempo=90)
    file = mido.MidiFile(path)
    notes = [m for m in file.tracks[0] if m.type == "note_on"]
    starts = sum(len(set(b) - set(a)) for a, b in zip([[], *SONG], SONG, strict=False))
    assert len(notes) == starts < sum(map(len, SONG))
    assert file.length == pytest.approx(len(SONG) * 60 / 90)
    assert mido.tempo2bpm(next(m.tempo for m in file if m.type == "set_tempo")) == pytest.approx(90)


@pytest.mark.parametrize("beats", [1.0, 0.5, 2.0])
def test_a_midi_file_is_read_as_it_was_written(beats, tmp_path):
    path = str(tmp_path / "song.mid")
    music.write_midi(SONG, path, beats)
    assert music.read_midi(path, beats) == SONG


def test_midi_of_others_is_read_on_the_grid(tmp_path):
    """Several tracks, running notes, a little early or late; drums are no notes."""
    path = tmp_path / "played.mid"
    melody, drums = mido.MidiTrack(), mido.MidiTrack()
    melody += [
        mido.Message("note_on", note=60, time=10),
        mido.Message("note_on", note=60, velocity=0, time=80),
        mido.Message("note_on", note=64, time=15),
        mido.Message("note_on", note=64, time=90),  # again, without an end
        mido.Message("note_off", note=64, time=100),
    ]
    drums += [mido.Message("note_on", note=36, channel=9, time=0)]
    mido.MidiFile(ticks_per_beat=100, tracks=[melody, drums]).save(path)
    assert music.read_midi(str(path)) == [[60], [64], [64]]


def test_a_file_that_is_not_midi_is_refused(tmp_path):
    path = tmp_path / "song.mid"
    path.write_text("no music")
    with pytest.raises(ConfigurationError, match=r"song.mid' is not a readable MIDI file"):
        music.read_pieces(str(path), 1.0)
    with pytest.raises(ConfigurationError, match=r"--input has no music .* got '.*none"):
        music.read_pieces(str(tmp_path / "none*"), 1.0)


def test_symbols_are_chords_again():
    assert music.chords(music.symbols(SONG)[1:]) == SONG
    long = SONG * 20
    assert music.symbols(long)[0] == "|96"
    assert music.chords(music.symbols(long)[1:]) == long
    assert music.chords(["60", "|5", "72", "64"]) == [[60], [64, 72]]


def test_every_piece_is_moved_to_one_key():
    for by in range(-5, 7):
        assert music.in_one_key(moved(BARS[0] + BARS[1], by)) == BARS[0] + BARS[1]


def test_the_chorales_are_read_and_are_symbols():
    if not CHORALES.exists():
        pytest.skip(f"the chorales may not be shipped: no {CHORALES}")
    pieces = music.read_pieces(str(CHORALES), 1.0)
    assert (len(pieces), sum(piece.held_out for piece in pieces)) == (382, 77)
    for piece in pieces:
        assert music.chords(music.symbols(piece.chords)[1:]) == piece.chords
    white = sum(
        pitch % 12 in music.WHITE
        for piece in pieces
        for chord in music.in_one_key(piece.chords)
        for pitch in chord
    )
    assert white / sum(len(c) for piece in pieces for c in piece.chords) > 0.9


def test_a_model_learns_bars_and_composes_them(tmp_path, capsys):
    for i in range(11):
        piece = moved(BARS[i % 2] + BARS[1], i - 5)
        music.write_midi(piece, str(tmp_path / f"{i:02d}.mid"))
    folder = tmp_path / "composed"
    flags = ["--hidden=32", "--layers=1", "--epochs=80", "--learning_rate=0.01", "--batch_size=1"]
    compose.main(
        [f"--input={tmp_path}/*.mid", f"--output={folder}", "--count=2", "--steps=8", *flags]
    )
    bits, *said, picture = capsys.readouterr().out.splitlines()
    assert float(bits.split()[0]) < 6  # of some 4 notes; drawn at random they need 26
    assert [line.split(":")[0] for line in said] == [str(folder / f"0{i}.mid") for i in (1, 2)]
    assert Path(picture).read_bytes().startswith(b"\x89PNG")
    known = [*BARS[0], *BARS[1]]
    written = [music.read_midi(str(folder / f"0{i}.mid")) for i in (1, 2)]
    assert [len(piece) for piece in written] == [8, 8]
    assert sum(chord in known for piece in written for chord in piece) >= 12

    again = tmp_path / "again"
    model = folder / "weights.arrow"
    compose.main([f"--weights={model}", f"--output={again}", "--count=2", "--steps=8"])
    for name in ("01.mid", "02.mid"):
        assert (again / name).read_bytes() == (folder / name).read_bytes()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "give either --input or --weights, got None and None"),
        (["--input=a", "--weights=b"], "got 'a' and 'b'"),
        (["--input=a", "--steps=200"], "--steps must be 1 to 96, got 200"),
    ],
)
def test_contradicting_flags_of_compose_are_refused(flags, message):
    with pytest.raises(ConfigurationError, match=message):
        compose.main(flags)


def test_a_model_learns_a_text_and_writes_it(tmp_path, capsys):
    text, model = tmp_path / "text.txt", tmp_path / "model.arrow"
    text.write_text("do re mi fa sol la ti\n" * 300)
    flags = ["--hidden=24", "--epochs=14", "--learning_rate=0.03", "--batch_size=2"]
    to_write = ["--prompt=do r", "--length=30", "--temperature=0"]
    write.main([f"--text={text}", f"--output={model}", *flags, *to_write])
    bits, *lines = capsys.readouterr().out.splitlines()
    assert float(bits.split()[0]) < 0.2
    assert "660 held-out characters" in bits
    assert lines == ["--- 1", "do re mi fa sol la ti", "do re mi fa "]
    columns = weights.load(model).columns
    assert columns.classes == tuple(sorted(set(text.read_text())))

    write.main([f"--weights={model}", *to_write[:2], "--samples=3", "--temperature=1", "--seed=3"])
    assert capsys.readouterr().out.count("--- ") == 3


def test_a_text_that_is_too_short_is_refused(tmp_path):
    short = tmp_path / "short.txt"
    short.write_text("ab")
    with pytest.raises(ConfigurationError, match=r"--text must have at least 20 .* got 'ab'"):
        write.main([f"--text={short}"])
    with pytest.raises(ConfigurationError, match="--prompt must be a text to continue, got ''"):
        write.main(["--prompt="])


def test_the_shipped_text_is_whole():
    text = write.text_of(str(write.TEXT))
    assert len(text) == 1_115_394
    assert len(set(text)) == 65


def test_json_of_pieces(tmp_path):
    path = tmp_path / "pieces.json"
    path.write_text(json.dumps({"train": [[[60, 48], []]], "test": [[[72, 60, 60]]]}))
    train, test = music.read_pieces(str(path), 1.0)
    assert (train.chords, train.held_out) == ([[48, 60], []], False)
    assert (test.chords, test.held_out) == ([[60, 72]], True)


def test_the_statistics_of_composed_music(tmp_path, capsys):
    """A training piece compared with an untrained network."""
    pieces = tmp_path / "pieces.json"
    pieces.write_text(json.dumps({"train": [BARS[0] * 3, BARS[1] * 3], "test": [BARS[0] * 3]}))
    network = Network("gru", 4, embedding=3, output="softmax")
    symbols = [len(music.SYMBOLS) + 1]
    parameters = network.initialize(1, len(music.SYMBOLS), seed=0, symbols=symbols)
    weights.save(Model(network, parameters, compose.COLUMNS), tmp_path / "weights.arrow")
    output = tmp_path / "rows.json"
    files = ["--weights", str(tmp_path / "weights.arrow"), "--input", str(pieces)]
    composed.main(["--quick", *files, "--json", str(output)])

    rows = json.loads(output.read_text())
    bach = rows["held out"]
    assert bach["chords that were learned"] == bach["of four notes"] == 1
    assert bach["longest row copied"] == len(BARS[0]) * 3
    assert bach["has a theme"] == 1
    assert rows["temperature 1"]["chords that were learned"] < 0.5
    assert set(rows) == {"held out", "piano roll", *(f"temperature {t:g}" for t in (0.7, 0.9, 1))}
    assert "parallels" in capsys.readouterr().out
