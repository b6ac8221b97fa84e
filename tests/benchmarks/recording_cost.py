"""The tutorial's job on the photos, recorded as `pydnn train` does, against the same in memory.

    python tests/benchmarks/recording_cost.py --data photos/ [--no-rotate] [--json]

A turn is the whole job of 2,500 steps, so that what is done once counts for what it is: the
fingerprints of data and machine, and the folder. Recording is to cost at most 5 % of the time of
the job as it is, 10 seconds of work, and 30 % in the rotated basis, where it is half a second's.
"""

import itertools
import tempfile
from pathlib import Path

import attrs
from side_by_side import arguments, compare

from pydnn.data import load_data_set
from pydnn.recipes import prepare, run, tutorial_recipe
from pydnn.runs import create_run, record


def main():
    parser = arguments(__doc__, blocks=5, steps=2500)
    parser.add_argument("--data", default="drawn-cats", metavar="NAME")
    parser.add_argument("--no-rotate", dest="rotate", action="store_false")
    args = parser.parse_args()
    data = load_data_set(args.data)
    recipe = tutorial_recipe(data=args.data, iterations=args.steps)
    job = prepare(attrs.evolve(recipe, rotate=args.rotate), data.train)

    def costs_of(stream, count):
        return [info.cost for _, info in itertools.islice(stream, count)]

    def recorded(count):
        with (
            tempfile.TemporaryDirectory(dir=".") as folder,
            create_run(Path(folder) / "run", job, data) as recording,
        ):
            return costs_of(record(recording, run(job)), count)

    compare(
        ("in memory", lambda count: costs_of(run(job), count)),
        ("recorded", recorded),
        args,
        limit=1.3 if args.rotate else 1.05,
    )


if __name__ == "__main__":
    main()
