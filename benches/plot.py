"""Plots the results of benches/fanout: server CPU time per delivery, of each server.

plot.py RESULTS.tsv OUT.png
"""

import csv
import sys
from collections import defaultdict

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

COLOURS = {"ours": "#c0392b", "limit": "#7f8c8d"}


def main(results, out):
    figures = defaultdict(dict)
    with open(results, newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            figures[row["scenario"]][row["peer"]] = float(row["first"])
    drawn = [name for name in figures if name.startswith(("saturated", "paced"))]
    columns = 2
    rows = max(1, -(-len(drawn) // columns))
    _, axes = plt.subplots(rows, columns, figsize=(12, 2.6 * rows), squeeze=False)
    for axis in axes.flat[len(drawn):]:
        axis.axis("off")
    for axis, name in zip(axes.flat, drawn):
        peers = sorted(figures[name].items(), key=lambda item: item[1], reverse=True)
        colours = [COLOURS.get(peer.split(",")[0], "#2c7fb8") for peer, _ in peers]
        bars = axis.barh([peer for peer, _ in peers], [value for _, value in peers], color=colours)
        axis.bar_label(bars, fmt="%.2f", padding=3, fontsize=7)
        axis.set_xscale("log")
        axis.margins(x=0.15)
        axis.set_title(name, fontsize=9)
        axis.set_xlabel("server CPU µs per delivery (log scale, less is better)", fontsize=7)
        axis.tick_params(labelsize=7)
    plt.tight_layout()
    plt.savefig(out, dpi=110)


main(*sys.argv[1:3])
