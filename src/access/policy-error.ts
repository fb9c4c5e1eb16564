/** Policies that are refused, each complaint with its place in the text. */
import type { DetailedError } from '@cedar-policy/cedar-wasm/nodejs';
import { TwofoldError } from '../errors.ts';

export interface PolicyComplaint {
  /** Lines and columns count from 1, columns in characters; null where Cedar names no place. */
  readonly line: number | null;
  readonly column: number | null;
  readonly message: string;
}

/** Complaints that are told; a text can have thousands. */
const MOST = 20;

export class PolicyInvalid extends TwofoldError {
  readonly complaints: readonly PolicyComplaint[];

  constructor(complaints: readonly PolicyComplaint[]) {
    super('policy_invalid', complaints.map(({ message }) => message).join('; '));
    this.complaints = complaints;
  }
}

/** @param text what the places of the errors are in */
export const policyInvalid = (errors: readonly DetailedError[], text: string): PolicyInvalid =>
  new PolicyInvalid(errors.slice(0, MOST).map((error) => complaintOf(error, text)));

/** A complaint of ours, about the whole. */
export const policyRefused = (message: string): PolicyInvalid =>
  new PolicyInvalid([{ line: null, column: null, message }]);

function complaintOf({ message, help, sourceLocations }: DetailedError, text: string) {
  const [place] = sourceLocations ?? [];
  const told = help === null ? message : `${message} (${help})`;
  if (place === undefined) return { line: null, column: null, message: told };
  return { ...positionOf(text, place.start), message: told };
}

/** Cedar counts bytes of UTF-8. */
export function positionOf(text: string, offset: number): { line: number; column: number } {
  const before = Buffer.from(text).subarray(0, offset).toString();
  const lines = before.split('\n');
  return { line: lines.length, column: Array.from(lines.at(-1) ?? '').length + 1 };
}
