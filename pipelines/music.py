"""Convert music between chords on an even grid, MIDI files, and the symbols of a network.

A piece is a list of chords, one for each step of the grid. A chord is the list of sounding MIDI
pitches, lowest first; 60 is middle C. The symbols of a piece are the notes of each chord, highest
first, so that a note is conditioned on the notes above it and on the earlier chords. A separator
before each chord gives the number of chords left, so that the network knows its position.

    >>> symbols([[48, 64], [], [60]])
    ['|3', '64', '48', '|2', '|1', '60', '|0']
    >>> chords(["64", "48", "|2", "|1", "60", "|0"])
    [[48, 64], [], [60]]
"""

import glob
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from beam_rnn.errors import ConfigurationError
from beam_rnn.files import replacing

LOWEST, HIGHEST = 21, 108  # the range of a piano
COUNTED = 96  # greatest number of remaining chords that a separator can say
STROKES = tuple(f"|{n}" for n in range(COUNTED + 1))
"""The separators before chords; the first one ends the piece."""
SYMBOLS = (*map(str, range(LOWEST, HIGHEST + 1)), *STROKES)

HELD_OUT_EVERY = 10  # of MIDI files, which have no split
TICKS = 480  # per quarter note
DRUMS = 9  # the channel whose notes are not pitches
ORGAN = 19
WHITE = (0, 2, 4, 5, 7, 9, 11)  # the scale of C major, and of A minor

Chords = list[list[int]]


class Piece(NamedTuple):
    """A piece of music.

    Attributes:
        name: A unique name.
        chords: The pitches of each step, lowest first.
        held_out: True if the piece is for evaluation, not for training.
    """

    name: str
    chords: Chords
    held_out: bool


def read_pieces(pattern: str, beats: float) -> list[Piece]:
    """Return the pieces of the files that match a pattern.

    Args:
        pattern: MIDI files with one piece each, of which every tenth is held out; or JSON files
            with the lists of pieces "train", "valid" and "test", of which "test" is held out.
        beats: The length of a step of MIDI files, in quarter notes.

    Raises:
        ConfigurationError: No file matches, or the files have no music to train on.
    """
    pieces: list[Piece] = []
    for path in sorted(glob.glob(pattern)):
        if path.endswith(".json"):
            pieces += _of_json(path)
        else:
            held_out = len(pieces) % HELD_OUT_EVERY == HELD_OUT_EVERY - 1
            pieces.append(Piece(path, read_midi(path, beats), held_out))
    if not any(piece.chords for piece in pieces if not piece.held_out):
        raise ConfigurationError(f"--input has no music to train on, got {pattern!r}")
    return pieces


def _of_json(path: str) -> Iterator[Piece]:
    for split, pieces in json.loads(Path(path).read_text()).items():
        for i, chords_of in enumerate(pieces):
            found = [sorted({int(pitch) for pitch in chord}) for chord in chords_of]
            yield Piece(f"{path} {split} {i}", found, split == "test")


def read_midi(path: str, beats: float = 1.0) -> Chords:
    """Return the chords of a MIDI file: the notes that sound just after each step begins.

    Args:
        path: The file.
        beats: The length of a step, in quarter notes.

    Raises:
        ConfigurationError: The file is not a readable MIDI file.
    """
    import mido  # from the extra `music`

    try:
        file = mido.MidiFile(path)
    except (OSError, EOFError, ValueError, mido.KeySignatureError) as error:
        raise ConfigurationError(f"{path!r} is not a readable MIDI file: {error}") from error
    step = file.ticks_per_beat * beats
    begins: dict[tuple[int, int], int] = {}
    notes: list[tuple[int, int, int]] = []
    now = 0
    for message in mido.merge_tracks(file.tracks):
        now += message.time
        if message.type not in ("note_on", "note_off") or message.channel == DRUMS:
            continue
        key = message.channel, message.note
        if key in begins:
            notes.append((begins.pop(key), now, message.note))
        if message.type == "note_on" and message.velocity:
            begins[key] = now
    found: list[set[int]] = [set() for _ in range(math.ceil(now / step))]
    for begin, end, pitch in notes:
        first, last = (math.ceil(at / step - 1 / 8) for at in (begin, end))
        for chord in found[first:last]:
            chord.add(pitch)
    return [sorted(chord) for chord in found]


def write_midi(chords_of: Chords, path: str, beats: float = 1.0, tempo: int = 84) -> None:
    """Write chords as a MIDI file; a note that repeats in the next chord is held.

    Args:
        chords_of: The chords.
        path: The file.
        beats: The length of a step, in quarter notes.
        tempo: Quarter notes per minute.
    """
    import mido

    track = mido.MidiTrack()
    track.append(mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(tempo)))
    track.append(mido.Message("program_change", program=ORGAN))
    sounding: set[int] = set()
    waited = 0
    for chord in [*map(set, chords_of), set[int]()]:
        changes = [("note_off", pitch) for pitch in sorted(sounding - chord)]
        changes += [("note_on", pitch) for pitch in sorted(chord - sounding)]
        for kind, pitch in changes:
            track.append(mido.Message(kind, note=pitch, velocity=80, time=waited))
            waited = 0
        sounding = chord
        waited += round(TICKS * beats)
    track.append(mido.MetaMessage("end_of_track", time=waited - round(TICKS * beats)))
    with replacing(path) as temporary:
        mido.MidiFile(type=0, ticks_per_beat=TICKS, tracks=[track]).save(temporary)


def in_one_key(chords_of: Chords) -> Chords:
    """Transpose a piece to C major or A minor, so that most of its notes are in the scale.

    >>> in_one_key([[62, 66, 69], [61, 64, 69], [62, 66, 69]])
    [[60, 64, 67], [59, 62, 67], [60, 64, 67]]
    """

    def fits(shift: int) -> tuple[int, int]:
        white = sum((pitch + shift) % 12 in WHITE for chord in chords_of for pitch in chord)
        return white, -abs(shift)

    shift = max(range(-6, 6), key=fits)
    return [[pitch + shift for pitch in chord] for chord in chords_of]


def stroke(ahead: int) -> str:
    """Return the separator before the last `ahead` chords of a piece."""
    return STROKES[min(ahead, COUNTED)]


def symbols(chords_of: Chords) -> list[str]:
    """Return the symbols of a piece, without notes outside the range of a piano."""
    found = [stroke(len(chords_of))]
    for i, chord in enumerate(chords_of, 1):
        found += [str(p) for p in sorted(chord, reverse=True) if LOWEST <= p <= HIGHEST]
        found.append(stroke(len(chords_of) - i))
    return found


def chords(symbols_of: Iterable[str]) -> Chords:
    """Return the chords of the symbols that follow the first separator."""
    found: Chords = []
    chord: set[int] = set()
    for symbol in symbols_of:
        if symbol in STROKES:
            found.append(sorted(chord))
            chord = set()
        else:
            chord.add(int(symbol))
    return [*found, sorted(chord)] if chord else found


def draw(pieces: Sequence[tuple[str, Chords]], path: str) -> None:
    """Draw the piano rolls of pieces, one above the other.

    Args:
        pieces: The names and chords of the pieces.
        path: The picture to write.
    """
    import matplotlib as mpl  # from the extra `plot`

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    pitches = [pitch for _, chords_of in pieces for chord in chords_of for pitch in chord] or [60]
    octaves = range(min(pitches) // 12 * 12, max(pitches) + 12, 12)
    figure, axes = plt.subplots(
        len(pieces), 1, figsize=(11, 2.1 * len(pieces)), squeeze=False, sharex=True
    )
    for axis, (name, chords_of) in zip(axes[:, 0], pieces, strict=True):
        for place, color in enumerate(("C3", "C1", "C2", "C0")):  # soprano, alto, tenor, bass
            notes = [(t, c[-1 - place]) for t, c in enumerate(chords_of) if place < len(c)]
            axis.barh(
                [pitch for _, pitch in notes], 1, 0.8, left=[t for t, _ in notes], color=color
            )
        axis.set_yticks(octaves, [f"C{pitch // 12 - 1}" for pitch in octaves])
        axis.set_title(name, loc="left", fontsize=9)
        axis.grid(visible=True, axis="y", color="0.9")
        axis.set_axisbelow(True)
        axis.tick_params(labelsize=8)
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
    axes[-1, 0].set_xlabel("steps", fontsize=8)
    figure.tight_layout()
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=100, format="png")
    plt.close(figure)
