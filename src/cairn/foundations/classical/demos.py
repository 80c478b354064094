"""The demonstrations of this chapter: `cairn foundations demo NAME --out DIR` draws one.

>>> sorted(DEMOS)[:3]
['classical-failures', 'classical-survey', 'confusion-matrix']
"""

from pathlib import Path
from typing import Any

import numpy as np

from cairn.foundations import metrics
from cairn.foundations.classical import failures, leakage
from cairn.foundations.classical.cross_validation import folds, out_of_fold, score_of
from cairn.foundations.classical.datasets import NAMES, load
from cairn.foundations.classical.k_means import kmeans
from cairn.foundations.classical.library import library
from cairn.foundations.classical.logistic import LogisticRegression
from cairn.foundations.classical.splits import train_validation_test
from cairn.foundations.classical.survey import classifiers, survey, table
from cairn.foundations.demo import Demo
from cairn.foundations.picture import new_figure, save

COLOURS = ("#2a6f97", "#b5502b", "#c9a227", "#444444", "#6a994e")


def boundaries(out: Path) -> list[str]:
    """What six methods make of two measurements of a wine."""
    data = load("wine")
    chosen = [data.names.index("alcohol"), data.names.index("flavanoids")]
    x, y, lines = data.x[:, chosen], data.y, []
    sides = [np.linspace(column.min() - 0.3, column.max() + 0.3, 150) for column in x.T]
    grid = np.stack(np.meshgrid(*sides), axis=-1)
    figure, axes = new_figure(columns=3, rows=2, size=(3.2, 2.8))
    names = ("logistic regression", "k-means, groups named", "k-NN", "tree", "random forest", "SVM")
    for panel, name in zip(axes, names):
        make = classifiers(3)[name]
        said = out_of_fold(make, x, y, folds(len(y), 5, np.random.default_rng(0), classes=y))
        lines.append(f"{name:<24} {score_of(y, said)}")
        model = make()
        model.fit(x, y)
        region = model.predict(grid.reshape(-1, 2)).reshape(grid.shape[:2])
        panel.contourf(*sides, region, levels=[-0.5, 0.5, 1.5, 2.5], colors=COLOURS[:3], alpha=0.25)
        for c in range(3):
            panel.plot(*x[y == c].T, "o", color=COLOURS[c], markersize=3, label=f"grower {c + 1}")
        panel.set_title(f"{name}: {metrics.accuracy(y, said):.3f}", loc="left")
        panel.set(xlabel="alcohol (%)", ylabel="flavanoids")
    axes[0].legend(frameon=False, fontsize=7)
    figure.suptitle("where each method draws the line (accuracy on samples it had not seen)")
    return [*lines, str(save(figure, out / "decision-boundaries.svg"))]


def curves(out: Path) -> list[str]:
    """ROC, precision-recall and reliability of two models: one ranks and is calibrated, one only ranks."""
    data = load("breast-cancer")
    x, y = data.x[:, :5], 1 - data.y  # five of the features, so that there is something to see; 1: malignant
    train, _, test = train_validation_test(len(y), np.random.default_rng(0), (0.5, 0.0, 0.5), classes=y)
    models: dict[str, Any] = {
        "logistic regression": LogisticRegression(),
        "naive Bayes": library("naive_bayes").GaussianNB(),
    }
    figure, axes = new_figure(columns=3, size=(3.6, 3.4))
    lines = [
        f"{'of ' + str(len(test)) + ' test samples':<22} ROC-AUC  average precision  log-loss  Brier  calibration error"
    ]
    for (name, model), colour in zip(models.items(), COLOURS):
        said = model.fit(x[train], y[train]).predict_proba(x[test])[:, 1]
        roc, pr = metrics.roc_curve(y[test], said), metrics.precision_recall_curve(y[test], said)
        area, mean = metrics.roc_auc(y[test], said), metrics.average_precision(y[test], said)
        reliable = metrics.reliability_curve(y[test], said, bins=5)
        error = metrics.expected_calibration_error(y[test], said, bins=5)
        axes[0].plot(roc.false_positive_rate, roc.true_positive_rate, color=colour, label=f"{name}: {area:.3f}")
        axes[1].step(pr.recall, pr.precision, where="post", color=colour, label=f"{name}: {mean:.3f}")
        axes[2].plot(reliable.said, reliable.happened, "o-", color=colour, markersize=4, label=f"{name}: {error:.3f}")
        loss, brier = metrics.log_loss(y[test], said), metrics.brier(y[test], said)
        lines.append(f"{name:<22} {area:>7.3f}  {mean:>17.3f}  {loss:>8.3f}  {brier:>5.3f}  {error:>17.3f}")
    share = float(y[test].mean())
    lines.append(f"{'chance':<22} {0.5:>7.3f}  {share:>17.3f}")
    axes[0].plot([0, 1], [0, 1], ":", color="grey", label="chance: 0.5")
    axes[1].axhline(share, linestyle=":", color="grey", label=f"chance: {share:.3f}")
    axes[2].plot([0, 1], [0, 1], ":", color="grey", label="says what happens: 0")
    axes[0].set(title="ROC (area)", xlabel="false alarms, share of the benign", ylabel="found, share of the malignant")
    axes[1].set(title="precision and recall (average)", xlabel="recall", ylabel="precision", ylim=(0, 1.05))
    axes[2].set(title="reliability (error)", xlabel="probability that was said", ylabel="share that was malignant")
    for panel in axes:
        panel.legend(frameon=False, fontsize=7)
    return [*lines, str(save(figure, out / "score-curves.svg"))]


def confusion(out: Path) -> list[str]:
    """Which digits logistic regression takes for which."""
    data = load("digits")
    parts = folds(len(data.y), 5, np.random.default_rng(0), classes=data.y)
    said = out_of_fold(lambda: LogisticRegression(l2=1e-2, tolerance=1e-5), data.x, data.y, parts)
    matrix = metrics.confusion_matrix(data.y, said)
    scores = metrics.class_scores(data.y, said)
    figure, (panel,) = new_figure(size=(4.4, 4.2))
    panel.imshow(np.log1p(matrix), cmap="Blues")
    for row, column in np.argwhere(matrix > 0):
        colour = "white" if row == column else "black"
        panel.text(column, row, matrix[row, column], ha="center", va="center", fontsize=7, color=colour)
    panel.set(xticks=range(10), yticks=range(10), xlabel="what was said", ylabel="what it is")
    panel.set_title("digits by logistic regression", loc="left")
    wrong = matrix - np.diag(np.diag(matrix))
    worst = np.unravel_index(wrong.argmax(), wrong.shape)
    lines = [
        f"accuracy {score_of(data.y, said)}",
        f"F1 macro {metrics.f1(data.y, said, 'macro'):.3f}, Matthews {metrics.matthews(data.y, said):.3f}",
        f"hardest to find: {scores.recall.argmin()} (recall {scores.recall.min():.3f})",
        f"most frequent confusion: {worst[0]} taken for {worst[1]}, {wrong.max()} times",
    ]
    return [*lines, str(save(figure, out / "confusion-matrix.svg"))]


def surveyed(out: Path) -> list[str]:
    """Every method on every data set, with intervals."""
    rows = [row for name in NAMES for row in survey(name)]
    figure, axes = new_figure(columns=len(NAMES), size=(2.6, 3.0))
    for panel, name in zip(axes, NAMES):
        mine = [row for row in rows if row.data == name]
        for place, row in enumerate(mine):
            panel.plot([row.score.low, row.score.high], [place, place], color=COLOURS[0], linewidth=4, alpha=0.4)
            panel.plot(row.score.value, place, "o", color=COLOURS[0], markersize=4)
        panel.axvline(mine[0].score.chance, linestyle=":", color="grey")
        panel.set_yticks(range(len(mine)), [row.method for row in mine], fontsize=7)
        panel.tick_params(labelleft=panel is axes[0] or name == "diabetes")  # the same methods stand in between
        panel.set_title(
            f"{name} ({'R2' if name == 'diabetes' else 'accuracy'}, n {mine[0].score.n})", loc="left", size=9
        )
    return [*table(rows), str(save(figure, out / "classical-survey.svg"))]


def leaks(out: Path) -> list[str]:
    """What a test says that has been seen before, beside what it says honestly."""
    rng, wine = np.random.default_rng(0), load("wine")
    found = {
        "features chosen before the split\n(pure noise)": leakage.choosing_first(rng=rng),
        "people on both sides of the split\n(random classes)": leakage.splitting_groups(rng=rng),
        "standardised before the split\n(wine)": leakage.standardising_first(wine.x, wine.y, rng=rng),
    }
    figure, (panel,) = new_figure(size=(6.0, 2.8))
    lines = []
    for place, (name, leak) in enumerate(found.items()):
        for shift, kind, score in ((0.12, "leaking", leak.leaking), (-0.12, "honest", leak.honest)):
            colour = COLOURS[1] if kind == "leaking" else COLOURS[0]
            panel.plot([score.low, score.high], [place + shift] * 2, color=colour, linewidth=4, alpha=0.4)
            panel.plot(score.value, place + shift, "o", color=colour, label=kind if place == 0 else None)
            lines.append(f"{name.replace(chr(10), ' '):<52} {kind:<8} {score}")
        panel.plot([leak.honest.chance] * 2, [place - 0.35, place + 0.35], ":", color="grey")
    panel.set_yticks(range(len(found)), found)
    panel.set(xlabel="accuracy (dotted: chance)", xlim=(0.3, 1.0))
    panel.legend(frameon=False)
    return [*lines, str(save(figure, out / "leakage.svg"))]


def failing(out: Path) -> list[str]:
    """Shifted digits, shuffled pixels, words without their order, features that say nothing."""
    moved = failures.shifted()
    lines = ["digits, tested 0, 1 and 2 of 8 pixels to the right:"]
    lines += [f"  {name:<20} {'   '.join(str(score) for score in scores)}" for name, scores in moved.items()]
    plain, shuffled = failures.shuffled()
    lines += [f"digits, logistic regression       {plain}", f"the same with all pixels shuffled {shuffled}"]
    words = failures.word_order(rng=np.random.default_rng(0))
    lines += [f'"dog bites man", {name:<23} {score}' for name, score in words.items()]
    far = failures.many_dimensions(rng=np.random.default_rng(0))
    lines += [f"k-NN with {n:>4} useless features: {score}; nearest / farthest {near:.2f}" for n, score, near in far]

    figure, axes = new_figure(columns=4, size=(3.0, 2.8))
    for (name, scores), colour in zip(moved.items(), COLOURS):
        axes[0].plot(range(len(scores)), [score.value for score in scores], "o-", color=colour, label=name)
    axes[0].axhline(0.1, linestyle=":", color="grey")
    axes[0].set(title="digits that moved", xlabel="pixels to the right", ylabel="accuracy", xticks=range(3))
    image = load("digits").x[4].reshape(8, 8)
    mixed = np.random.default_rng(0).permutation(image.ravel()).reshape(8, 8)
    axes[1].imshow(np.concatenate([image, np.full((8, 1), np.nan), mixed], axis=1), cmap="gray_r")
    axes[1].set_facecolor(COLOURS[0])  # seen where there is no pixel: between the two
    axes[1].set(title=f"a 4, and shuffled: {plain.value:.3f}, {shuffled.value:.3f}", xticks=[], yticks=[])
    axes[2].bar([0, 1], [score.value for score in words.values()], color=COLOURS[0], width=0.5)
    axes[2].set_xticks([0, 1], ["counts", "with place"])
    axes[2].axhline(0.5, linestyle=":", color="grey")
    axes[2].set(title='"dog bites man"', ylabel="accuracy", ylim=(0, 1))
    axes[3].plot(
        [n + 1 for n, _, _ in far], [score.value for _, score, _ in far], "o-", color=COLOURS[0], label="accuracy"
    )
    axes[3].plot(
        [n + 1 for n, _, _ in far], [near for *_, near in far], "s--", color=COLOURS[2], label="nearest / farthest"
    )
    axes[3].set(title="k-NN, useless features", xlabel="useless features + 1", xscale="log", ylim=(0, 1.02))
    axes[0].legend(frameon=False, fontsize=7, loc="upper right", bbox_to_anchor=(1.0, 0.92))
    axes[3].legend(frameon=False, fontsize=7, loc="lower right")
    return [*lines, str(save(figure, out / "classical-failures.svg"))]


def centres(out: Path) -> list[str]:
    """The ten means that k-means finds among digits, without being told that there are digits."""
    data = load("digits")
    found = kmeans(data.x, 10, rng=np.random.default_rng(0))
    figure, axes = new_figure(columns=5, rows=2, size=(1.4, 1.6))
    for panel, centre, group in zip(axes, found.centres, range(10)):
        held = np.bincount(data.y[found.labels == group], minlength=10)
        panel.imshow(centre.reshape(8, 8), cmap="gray_r")
        panel.set(xticks=[], yticks=[], title=f"{held.argmax()}: {held.max() / held.sum():.0%} of {held.sum()}")
    line = f"{found.steps} steps, mean squared distance to the centre {found.inertia / len(data.x):.1f}"
    return [line, str(save(figure, out / "k-means.png"))]


DEMOS: dict[str, Demo] = {
    "decision-boundaries": Demo("where six classical methods draw the line between three wines", boundaries),
    "score-curves": Demo(
        "ROC, precision-recall and reliability: ranking well and being calibrated are two things", curves
    ),
    "confusion-matrix": Demo("which digits are taken for which", confusion),
    "classical-survey": Demo(
        "eight classical methods on five real data sets, with chance levels and intervals", surveyed
    ),
    "leakage": Demo("how a test is passed by having seen it", leaks),
    "classical-failures": Demo("why none of them can see or read: shifts, shuffled pixels, word order", failing),
    "k-means": Demo("the ten means among handwritten digits", centres),
}
