/**
 * How deep a policy's text may be nested, looked at before Cedar sees it. Cedar parses by recursion in
 * WebAssembly with 1 MiB of stack and no bound of its own: one text that is nested too deeply traps it,
 * and leaves it of no use to whatever decides afterwards in that thread.
 *
 * Measured with Cedar 4: 130 brackets within each other trap, or a chain of 1,500 operators.
 */
import { PolicyInvalid, positionOf } from './policy-error.ts';

/** What a bracket counts beside 1 as every operator; the parser goes through all levels of its grammar. */
const BRACKET = 10;
/** 45 brackets within each other, or 500 operators in a row, or some of both. */
const MOST = 500;
/** Levels of a policy's conditions in Cedar's JSON form, as far as its reader takes them. */
const MOST_JSON = 118;

/** What Cedar skips or reads as one (strings, comments, names), then what nests, separates or is chained. */
const TOKEN =
  /\/\/[^\n\r]*|"(?:[^"\\]|\\[^\n])*"|(?<open>[([{])|(?<close>[)\]}])|(?<end>[,;])|(?<chain>[-+*.!]|&&|\|\||\bif\b)|\w+/gu;

/** What stands within one pair of brackets. */
interface Level {
  /** The deepest of the items before the last comma. */
  done: number;
  /** The deepest of the brackets in this item. */
  inner: number;
  operators: number;
}

const newLevel = (): Level => ({ done: 0, inner: 0, operators: 0 });

/** @throws PolicyInvalid at the place where it goes too deep */
export function checkNesting(text: string): void {
  const around: Level[] = [];
  let level = newLevel();
  // Brackets that are open, and the operators beside them.
  let outside = 0;
  for (const { index, groups = {} } of text.matchAll(TOKEN)) {
    if (groups['open'] !== undefined) {
      level.operators += 1;
      outside += level.operators + BRACKET;
      around.push(level);
      level = newLevel();
    } else if (groups['end'] !== undefined) {
      level = { ...newLevel(), done: depthOf(level) };
    } else if (groups['chain'] !== undefined) {
      level.operators += 1;
    } else if (groups['close'] !== undefined) {
      const closed = BRACKET + depthOf(level);
      level = around.pop() ?? newLevel();
      outside = Math.max(0, outside - level.operators - BRACKET);
      level.inner = Math.max(level.inner, closed);
    }
    if (outside + depthOf(level) > MOST) throw tooDeep(text, index);
  }
}

const depthOf = ({ done, inner, operators }: Level) => Math.max(done, inner + operators);

function tooDeep(text: string, index: number): PolicyInvalid {
  const message = 'brackets or operators are nested too deeply here';
  const place = positionOf(text, Buffer.byteLength(text.slice(0, index)));
  return new PolicyInvalid([{ ...place, message }]);
}

/**
 * Cedar evaluates the JSON form, whose reader takes fewer levels than its parser: what it would not take
 * would make every decision fail. @throws PolicyInvalid
 */
export function checkConditions(conditions: unknown): void {
  if (!isWithin(conditions, MOST_JSON)) {
    throw new PolicyInvalid([
      {
        line: null,
        column: null,
        message: 'its conditions are nested too deeply, or chain too many',
      },
    ]);
  }
}

const isWithin = (value: unknown, levels: number): boolean =>
  typeof value !== 'object' ||
  value === null ||
  (levels > 0 && Object.values(value).every((each) => isWithin(each, levels - 1)));
