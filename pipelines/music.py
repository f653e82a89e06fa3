"""Music as chords on an even grid, as MIDI files, and as the symbols that a network learns.

A piece is a list of chords, one for each step of the grid; a chord is the pitches that sound, from
the lowest, as MIDI numbers them: 60 is the middle C. Its symbols are the notes of each chord from
the top down, each of which can then fit those above it and all that came before. Ahead of every
chord stands how many are still to come, so that a piece knows where it is.

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

LOWEST, HIGHEST = 21, 108  # the keys of a piano
COUNTED = 96  # so many chords are counted down; what is further from its end does not see it
STROKES = tuple(f"|{n}" for n in range(COUNTED + 1))
"""What stands ahead of a chord; the first ends the piece."""
SYMBOLS = (*map(str, range(LOWEST, HIGHEST + 1)), *STROKES)

HELD_OUT_EVERY = 10  # of pieces whose files do not say
TICKS = 480  # of a quarter note
DRUMS = 9  # the channel whose notes are no pitches
ORGAN = 19
WHITE = (0, 2, 4, 5, 7, 9, 11)  # the scale of C major, and of A minor

Chords = list[list[int]]


class Piece(NamedTuple):
    """A piece of music.

    Attributes:
        name: Of which no other piece has the same.
        chords: The pitches of each step, from the lowest.
        held_out: Whether it is there to judge by, not to learn from.
    """

    name: str
    chords: Chords
    held_out: bool


def read_pieces(pattern: str, beats: float) -> list[Piece]:
    """The pieces of files.

    Args:
        pattern: MIDI files, each a piece, of which every tenth is held out; or JSON files with
            lists of pieces named "train", "valid" and "test", those of "test" held out.
        beats: How many quarter notes a step of MIDI files is.

    Raises:
        ConfigurationError: There is no such file, or nothing to learn from in it.
    """
    pieces: list[Piece] = []
    for path in sorted(glob.glob(pattern)):
        if path.endswith(".json"):
            pieces += _of_json(path)
        else:
            held_out = len(pieces) % HELD_OUT_EVERY == HELD_OUT_EVERY - 1
            pieces.append(Piece(path, read_midi(path, beats), held_out))
    if not any(piece.chords for piece in pieces if not piece.held_out):
        raise ConfigurationError(f"--input names no music to learn from, got {pattern!r}")
    return pieces


def _of_json(path: str) -> Iterator[Piece]:
    for split, pieces in json.loads(Path(path).read_text()).items():
        for i, chords_of in enumerate(pieces):
            found = [sorted({int(pitch) for pitch in chord}) for chord in chords_of]
            yield Piece(f"{path} {split} {i}", found, split == "test")


def read_midi(path: str, beats: float = 1.0) -> Chords:
    """The chords that sound in a MIDI file, just after the beginning of each step.

    Args:
        path: The file.
        beats: How many quarter notes a step is.

    Raises:
        ConfigurationError: It is no MIDI file.
    """
    import mido  # of the extra `music`

    try:
        file = mido.MidiFile(path)
    except (OSError, EOFError, ValueError, mido.KeySignatureError) as error:
        raise ConfigurationError(f"{path!r} is no MIDI file that can be read: {error}") from error
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
    """A MIDI file of chords, in which a note that stays is held.

    Args:
        chords_of: The chords.
        path: The file.
        beats: How many quarter notes a step is.
        tempo: How many quarter notes a minute has.
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
    """A piece moved to C major or A minor: where most of its notes are those of the scale.

    >>> in_one_key([[62, 66, 69], [61, 64, 69], [62, 66, 69]])
    [[60, 64, 67], [59, 62, 67], [60, 64, 67]]
    """

    def fits(shift: int) -> tuple[int, int]:
        white = sum((pitch + shift) % 12 in WHITE for chord in chords_of for pitch in chord)
        return white, -abs(shift)

    shift = max(range(-6, 6), key=fits)
    return [[pitch + shift for pitch in chord] for chord in chords_of]


def stroke(ahead: int) -> str:
    """What stands ahead of so many chords."""
    return STROKES[min(ahead, COUNTED)]


def symbols(chords_of: Chords) -> list[str]:
    """The symbols of a piece; notes that no piano has are left out."""
    found = [stroke(len(chords_of))]
    for i, chord in enumerate(chords_of, 1):
        found += [str(p) for p in sorted(chord, reverse=True) if LOWEST <= p <= HIGHEST]
        found.append(stroke(len(chords_of) - i))
    return found


def chords(symbols_of: Iterable[str]) -> Chords:
    """The chords of the symbols that follow a first stroke."""
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
    """Piano rolls, one above the other, as a picture: time to the right, pitch upwards.

    Args:
        pieces: The name of each, and its chords.
        path: The picture.
    """
    import matplotlib as mpl  # of the extra `plot`

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
