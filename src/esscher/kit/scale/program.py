"""A program that gives every text a number: a line of JSON in, a line with the number out.

Like `worker`, this module loads nothing heavy, so a worker that has such a program is a light one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from esscher.errors import DataError, NumericsError, WorkerError, WorkerTimeoutError
from esscher.kit.scale.lines import LineProgram, arguments_of
from esscher.kit.scale.schedule import RETRIES, check_timeout, shown

__all__ = ["ScoringProgram"]


class ScoringProgram:
    """A program that reads and writes JSON Lines, as a function `f(items, contexts)`.

    For every item it is sent one line `{"text": …, "prompt": …}` (null where there are no prompts)
    and answers, in the same order, one line with a number or `{"reward": number}`; -Infinity rules
    the item out. It must write each answer before it waits for another line, and is expected to end
    when its input does. It is started at the first call and kept; if it dies, it is started again
    and sent the items that are not answered.

    Args:
        command: program and arguments, split as a shell would; there is no shell.
        timeout: seconds to wait for the next answer, the first with the program's start, > 0; None
            for no limit.
        retries: how often it is started again without having answered the item it died on.

    Raises:
        ConfigError: if there is no such program, or the timeout is not above 0.
    """

    def __init__(
        self, command: str, *, timeout: float | None = None, retries: int = RETRIES
    ) -> None:
        check_timeout(timeout)
        self._arguments = arguments_of(command)
        self.command = command
        self.timeout = timeout
        self.retries = retries
        self.__name__ = command
        self._program: LineProgram | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return _made, (self.command, self.timeout, self.retries)

    def __call__(self, items: Sequence[Any], contexts: Sequence[Any] | None = None) -> list[float]:
        """B numbers, each below inf.

        Raises:
            WorkerTimeoutError: if an answer does not come in time.
            WorkerError: if the program dies again and again on one item.
            DataError: if an answer is no number, or there are too many.
            NumericsError: if an answer is NaN or inf.
        """
        prompts = [None] * len(items) if contexts is None else contexts
        lines = [_line(item, prompt) for item, prompt in zip(items, prompts, strict=True)]
        try:
            return self._all(lines, items)
        except BaseException:
            # Its remaining answers would be taken for those of the next call.
            self.close()
            raise

    def close(self) -> None:
        """End the program; the next call starts it again."""
        if self._program is not None:
            self._program.close()
            self._program = None

    def _all(self, lines: Sequence[str], items: Sequence[Any]) -> list[float]:
        rewards: list[float] = []
        deaths = 0
        while len(rewards) < len(lines):
            self._program = self._program or LineProgram(self._arguments)
            answers, fault = self._program.ask(lines[len(rewards) :], self.timeout)
            start = len(rewards)
            rewards += [self._number(a, items, start + i) for i, a in enumerate(answers)]
            if fault == "ended":
                deaths = 1 if answers else deaths + 1
                self._restart(items, len(rewards), deaths)
            elif fault:
                raise self._fault(fault, items, len(rewards))
        return rewards

    def _restart(self, items: Sequence[Any], done: int, deaths: int) -> None:
        assert self._program is not None
        if deaths > self.retries:
            raise WorkerError(
                f"{self._where(items, done)}: it {self._program.end} without an answer, {deaths} "
                f"times in all, and had answered {done} of {len(items)} items; it must print one "
                f"line for every line it reads{self._quoted()}"
            )
        self.close()

    def _fault(self, fault: str, items: Sequence[Any], done: int) -> Exception:
        if fault == "silent":
            return WorkerTimeoutError(
                f"{self._where(items, done)}: no answer within the timeout of {self.timeout:g} s; "
                "does it write out (flush) every answer before it reads on? Else raise the timeout"
                f"{self._quoted()}"
            )
        return DataError(
            f"the command {self.command!r} printed more than one line per item, in a batch of "
            f"{len(items)}; everything but the reward belongs on standard error{self._quoted()}"
        )

    def _number(self, answer: str, items: Sequence[Any], i: int) -> float:
        try:
            value = json.loads(answer)
            value = value["reward"] if isinstance(value, dict) else value
            reward = float(value) if isinstance(value, (int, float)) else None
        except (ValueError, KeyError, OverflowError):
            reward = None
        if reward is None:
            raise DataError(
                f"{self._where(items, i)}: expected a number or an object with a number as "
                f'"reward", got {shown(answer)}{self._quoted()}'
            )
        if math.isnan(reward) or reward == math.inf:
            raise NumericsError(
                f"{self._where(items, i)}: got {reward}, expected a number below inf; answer with "
                f"a finite number there, or -Infinity to rule the item out{self._quoted()}"
            )
        return reward

    def _where(self, items: Sequence[Any], i: int) -> str:
        return f"the command {self.command!r} on item {i} of {len(items)}, {shown(items[i])}"

    def _quoted(self) -> str:
        errors = self._program.standard_error if self._program is not None else ""
        return f"; its standard error ends with:\n{errors}" if errors else ""


def _made(command: str, timeout: float | None, retries: int) -> ScoringProgram:
    return ScoringProgram(command, timeout=timeout, retries=retries)


def _line(item: object, prompt: object) -> str:
    try:
        return json.dumps({"text": item, "prompt": prompt})
    except (TypeError, ValueError) as error:
        raise DataError(
            f"a command needs items and prompts with a JSON form, got {shown(item)} with prompt "
            f"{shown(prompt)}: {error}"
        ) from error
