"""Random graphs through every backend (tests/random_graphs.py), and those that once failed (tests/found_graphs.py)."""
import random_graphs
from found_graphs import FOUND
from harness import Case, check
from suites.control import parsed_models, run_good
from suites.ops import BACKENDS

PIECES = 3      # the small run is cut into cases of some seconds


def random_case(ctx, seed, count):
    def run():
        a = random_graphs.parse_arguments(["--seed", str(seed), "--count", str(count), "--smelt", ctx.smelt_path])
        said = []
        _, refused, n_graphs, n_nodes = random_graphs.run_many(a, said.append)
        check(not said, "\n".join(said) + f"\ntests/random_graphs.py --seed {seed} --count {count} --keep DIR")
        check(n_graphs > count / 2, f"only {n_graphs} of {count} graphs grew")
        return f"{n_graphs} graphs, {n_nodes} nodes, {sum(refused.values())} refused"
    return run


def cases(ctx):
    made = [Case(f"{name}.{backend}", lambda m=m, f=f, b=backend: run_good(ctx, m, f, b), label)
            for name, m, f in parsed_models(FOUND) for backend, label in BACKENDS.items()]
    made += [Case(f"seeds_{1 + 20 * i}", random_case(ctx, 1 + 20 * i, 20), "cpu") for i in range(PIECES)]
    return made + [Case("seeds_long", random_case(ctx, 10000, 2000), "long")]
