"""``mechanism``: what generates data sets, and the data sets it draws.

A mechanism is a generating model, a design, a truth and the violations of its assumptions. Data set
i depends on the seed and on i only, whatever is drawn beside it; and every ingredient (design,
truth, random effects, residuals, each violation) has a stream of its own, so that two mechanisms
which differ in one share the random numbers of the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

import pandas as pd

from jaxhlm.core.arguments import check_flag, whole_number
from jaxhlm.core.document import Block, Printed, described, filled
from jaxhlm.core.streams import Seed, random_key
from jaxhlm.core.tables import Table, as_frame
from jaxhlm.design.design import Design, build_design
from jaxhlm.design.subsets import settled
from jaxhlm.errors import FormulaError, OptionError, UnknownTermError
from jaxhlm.estimation.pipeline import Prepared
from jaxhlm.language.formula import ParsedFormula, check_formula, column_name, parse
from jaxhlm.studies.builder import UnitDesign
from jaxhlm.studies.drawn import Drawn
from jaxhlm.studies.fitting import prepared_by
from jaxhlm.studies.layout import check_redrawn
from jaxhlm.studies.pattern_source import Patterns, patterns_of
from jaxhlm.studies.simulate import Simulated
from jaxhlm.studies.truth import Truth
from jaxhlm.studies.uncertainty import TruthSource
from jaxhlm.violations import EffectsFrom, ResidualsFrom, Violation

__all__ = ["Mechanism", "assembled", "mechanism", "without_offset"]


@dataclass(frozen=True, eq=False, repr=False)
class Mechanism(Printed):
    """What generates data sets; made by ``jaxhlm.mechanism``, which see.

    Attributes:
        design: the frame, or the builder of frames that are redrawn for every data set.
        source: what the design was given as; the builder also where it draws one frame for all.
        truth: the parameters, or what draws them.
        violations: of the assumptions.
        template: the generating model on the frame, or on one frame of the builder.
        response: name of the response column.
        parsed: the generating formula.
    """

    design: pd.DataFrame | UnitDesign = field(repr=False)
    truth: Truth | TruthSource
    violations: tuple[Violation, ...]
    template: Design = field(repr=False)
    response: str
    source: pd.DataFrame | UnitDesign = field(repr=False)
    parsed: ParsedFormula = field(repr=False)

    def __getstate__(self) -> dict[str, Any]:
        """What another process needs; it makes for itself what is kept beside it."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def __str__(self) -> str:
        """What is generated, on what, and what is wrong with it."""
        wrong = [f"violated: {v}" for v in self.violations] or ["no violations"]
        told = (filled(line, "    ", "  ") for line in (self._sizes, str(self.truth), *wrong))
        return "\n".join([self.formula, *told])

    def _blocks(self) -> list[Block]:
        told = {"Model": self.formula, "Design": self._sizes, "Truth": str(self.truth)}
        told["Violated"] = "; ".join(map(str, self.violations)) or "no assumption"
        return [[described(told)]]

    @property
    def _sizes(self) -> str:
        frame = f"{self.template.n:,} rows in {self.template.G:,} units"
        anew = ", one draw of a design that is redrawn" * isinstance(self.design, UnitDesign)
        return f"{frame}{anew}"

    @property
    def formula(self) -> str:
        """The generating model."""
        return self.template.formula

    @property
    def terms(self) -> tuple[str, ...]:
        """Names of the p fixed effects."""
        return self.template.xnames

    @property
    def gaussian(self) -> bool:
        """Whether data sets can be drawn as sufficient statistics.

        That is: one truth, no violation, and one design; or designs that differ in drop-out and
        numbers of measurements only, of units with few different sets of covariates.
        """
        if not isinstance(self.truth, Truth) or self.violations:
            return False
        return isinstance(self.design, pd.DataFrame) or self.patterns is not None

    def truth_of(self, term: str) -> float:
        """True value of a fixed effect.

        Raises:
            UnknownTermError: the generating model has no such term.
            OptionError: every data set has a truth of its own; see ``Drawn.truths``.
        """
        if term not in self.terms:
            raise UnknownTermError(
                f"the generating model has no term {term!r}; it has {', '.join(self.terms)}"
            )
        if not isinstance(self.truth, Truth):
            raise OptionError("every data set draws a truth of its own; see drawn.truths")
        return float(self.truth.fixed(self.terms)[self.terms.index(term)])

    def draw(self, first: int, last: int, seed: Seed = 0, rows: bool = True) -> Drawn:
        """Data sets number ``first`` … ``last − 1``.

        Args:
            first, last: data set i is the same in ``draw(0, 10)`` and in ``draw(4, 10)``.
            seed: int or JAX key; a NumPy Generator advances, so it gives other data each time.
            rows: False draws sufficient statistics wherever that is possible (``gaussian``), at a
                fraction of the cost and with the same distribution, though other numbers; such
                data sets can only be fitted, and only by the generating formula.

        Raises:
            OptionError: not 0 ≤ first < last, or the seed is none.
        """
        check_flag("rows", rows)
        first, last = whole_number("first", first, 0), whole_number("last", last, 0)
        if not first < last:
            raise OptionError(f"draw({first}, {last}): give first and last with 0 ≤ first < last")
        return Drawn(self, first, last, random_key(seed), rows or not self.gaussian)

    @cached_property
    def prepared(self) -> Callable[[ParsedFormula], Prepared]:
        """The matrices of a formula on the design (on one draw of it, if it is redrawn), kept.

        Its terms mean what they mean in the generating model.
        """
        frame = self.design if isinstance(self.design, pd.DataFrame) else self.design.frame()
        return prepared_by(frame, self.template, self.parsed)

    @cached_property
    def patterns(self) -> Patterns | None:
        """What units may be measured at where that is redrawn, if these are few things."""
        if isinstance(self.design, pd.DataFrame) or not isinstance(self.truth, Truth):
            return None
        return patterns_of(self.design, self.template, self.parsed, self.truth)

    @cached_property
    def _statistics(self) -> Simulated:
        assert isinstance(self.truth, Truth)
        return Simulated(self.prepared(self.parsed), self.truth, 1, True, random_key(0))


def mechanism(
    formula: str,
    design: Table | UnitDesign,
    truth: Truth | TruthSource,
    violations: Sequence[Violation] | Violation = (),
) -> Mechanism:
    """What generates data sets: a model, a design, a truth, and what is wrong with the model.

    Args:
        formula: the generating model, such as ``y ~ x * a + (1 + x | unit)``.
        design: a table, as for ``fit``, or a builder from ``jaxhlm.units``, which may redraw it for
            every data set.
        truth: the parameters, or a distribution over them (``jaxhlm.TruthDistribution``). One
            that comes from a fit brings along what terms learned there, such as the mean that
            ``center(x)`` subtracts; else they learn from the design.
        violations: of the model's assumptions, from ``jaxhlm.violations``.

    Returns:
        A ``Mechanism``: ``.draw(first, last, seed)`` draws data sets, ``.fit(formula)`` fits them.

    Raises:
        OptionError: the truth or a violation does not fit the model, such as a correlation of
            effects that ``||`` keeps apart, or two violations replace the same distribution.
        JaxhlmError: as for ``jaxhlm.fit``, if the design is at fault.

    Example:
        >>> import jaxhlm as hlm
        >>> from jaxhlm.violations import ResidualsFrom, StudentT
        >>> truth = hlm.Truth.of([1, 3, -0.15, 0.3], sd=[0.2, 0.5], corr=0.9, sigma=0.75)
        >>> data = hlm.load_dataset("article")
        >>> heavy = hlm.mechanism(
        ...     "y ~ x * a + (1 + x | unit)", data, truth, [ResidualsFrom(StudentT(3))]
        ... )
        >>> drawn = heavy.draw(0, 100, seed=1)
        >>> model_1 = drawn.fit("y ~ x + (1 + x | unit)")
        >>> len(model_1), int(model_1.ok.sum()), heavy.truth_of("x:a")
        (100, 100, 0.3)
        >>> print(heavy)
        y ~ x * a + (1 + x | unit)
          900 rows in 30 units
          fixed effects 1, 3, -0.15, 0.3; random effects sd 0.2, 0.5, corr 0.9; residual sd 0.75
          violated: ResidualsFrom(distribution=StudentT(df=3))
    """
    return assembled(formula, design, truth, violations, getattr(truth, "learned", None))


def assembled(
    formula: str,
    design: Table | UnitDesign,
    truth: Truth | TruthSource,
    violations: Sequence[Violation] | Violation,
    learned: Mapping[str, Any] | None,
) -> Mechanism:
    """``mechanism``, with what terms have ``learned`` elsewhere."""
    check_formula(formula)
    violations = tuple(violations) if isinstance(violations, Iterable) else (violations,)
    for v in violations:
        if not isinstance(v, Violation):
            raise OptionError(
                f"{v!r} is no violation; give members of jaxhlm.violations, such as "
                "EffectsFrom(StudentT(5))"
            )
    for kind in (EffectsFrom, ResidualsFrom):
        if sum(isinstance(v, kind) for v in violations) > 1:
            raise OptionError(f"{kind.__name__} is given twice; one distribution replaces another")
    if not hasattr(truth, "draw") and not isinstance(truth, Truth):
        raise OptionError(f"truth={truth!r}: give a jaxhlm.Truth or a jaxhlm.TruthDistribution")
    design = design if isinstance(design, UnitDesign) else as_frame("design", design)
    redrawn = isinstance(design, UnitDesign) and design.redrawn
    frame = design.frame() if isinstance(design, UnitDesign) else design
    parsed = without_offset(parse(formula, response_optional=True))
    response = _response(parsed)
    template = build_design(parsed, frame, response_rows=len(frame), learned=learned)
    if isinstance(truth, Truth):
        truth.check_learned(template.learned)
    if "replicate" in frame:
        raise OptionError('the design has a column "replicate", which data sets are told apart by')
    if redrawn:
        check_redrawn(template, design)
    kept = frame[template.kept]
    source = design if isinstance(design, UnitDesign) else kept
    drawn_on, template = design if redrawn else kept, settled(template)
    m = Mechanism(drawn_on, truth, violations, template, response, source, parsed)
    # One data set shows whether truth and violations fit the design, before any work is done.
    _ = m.draw(0, 1)._drawn
    return m


def without_offset(parsed: ParsedFormula) -> ParsedFormula:
    """The formula, whose terms estimate what the truth says of them.

    Raises:
        OptionError: it has an offset.
    """
    if parsed.offsets:
        raise OptionError(
            f"{parsed.formula!r}: studies and power are of models without offset(); for data sets "
            "of one design with an offset see jaxhlm.simulate(jaxhlm.design(…), truth)"
        )
    return parsed


def _response(parsed: ParsedFormula) -> str:
    """The name on the left side, "y" where there is none."""
    response = column_name(parsed.response) if parsed.response else "y"
    if response is None:
        raise FormulaError(
            f"the generating model draws one column, not {parsed.response!r}; write its name there"
        )
    return response
