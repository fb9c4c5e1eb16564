/**
 * Bodies and answers of lines (NDJSON: one JSON value a line, lines end with LF). A line that is refused
 * is that line's error, in its place; too many lines, or none, refuse the request.
 */
import { REF } from '../contract/batch.ts';
import { SENSITIVE_FIELDS } from '../contract/sensitive.ts';
import { TwofoldError } from '../errors.ts';
import { attempt, isFailed } from '../settled.ts';
import { parseJson } from './json.ts';
import { refusal } from './refusal.ts';
import type { Settled } from '../settled.ts';
import type { z } from 'zod';

/** An item's ciphertext, context and `aad` at their longest fit, escaped as JSON may. */
export const MAX_LINE_BYTES = 262_144;
/** An item has 37 values and names at most. */
const MAX_LINE_VALUES = 64;
const LF = 0x0a;

export interface Line<T> {
  /** The caller's name for it, also of a line that was refused for something else. */
  readonly ref: string | undefined;
  readonly item: Settled<T>;
}

/** An answer of lines, each as the contract says it. */
export class Lines<T> {
  readonly values: readonly T[];

  constructor(values: readonly T[]) {
    this.values = values;
  }
}

/** Looks for one end of line more than there may be. */
function split(bytes: Buffer, most: number): readonly Buffer[] {
  const lines: Buffer[] = [];
  for (let start = 0; start < bytes.length;) {
    const found = bytes.indexOf(LF, start);
    const end = found < 0 ? bytes.length : found;
    if (lines.length === most) {
      throw new TwofoldError('batch_too_large', `A request has at most ${most} lines.`);
    }
    lines.push(bytes.subarray(start, end));
    start = end + 1;
  }
  if (lines.length === 0) throw new TwofoldError('invalid_value', 'The body has no lines.');
  return lines;
}

/** Secrets have no place in lines; one that stands there all the same is wiped with the body. */
function valueOf(line: Buffer): unknown {
  if (line.length > MAX_LINE_BYTES) {
    throw new TwofoldError('invalid_value', `A line has at most ${MAX_LINE_BYTES} bytes.`);
  }
  const { value, raws } = parseJson(line, SENSITIVE_FIELDS, MAX_LINE_VALUES);
  for (const raw of raws) raw.wipe();
  return value;
}

function refOf(value: unknown): string | undefined {
  const ref: unknown =
    typeof value === 'object' && value !== null ? Reflect.get(value, 'ref') : undefined;
  return REF.ref.safeParse(ref).data;
}

const pointer = (path: readonly PropertyKey[]) => path.map((step) => `/${String(step)}`).join('');

function lineOf(line: Buffer, schema: z.ZodType): Line<unknown> {
  const value = attempt(() => valueOf(line));
  if (isFailed(value)) return { ref: undefined, item: value };
  const parsed = schema.safeParse(value);
  const item = parsed.success
    ? parsed.data
    : refusal(parsed.error, schema, 'unknown_field', pointer);
  return { ref: refOf(value), item };
}

/** @throws TwofoldError batch_too_large, before any line is looked at; invalid_value without lines */
export const readLines = (
  bytes: Buffer,
  schema: z.ZodType,
  most: number,
): readonly Line<unknown>[] => split(bytes, most).map((line) => lineOf(line, schema));
