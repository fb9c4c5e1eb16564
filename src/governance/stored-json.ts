/** Reading what a sealed member says, strictly: what it cannot mean is `integrity_failed`. */
import { TwofoldError } from '../errors.ts';
import type { Json, JsonObject } from '../keyring/set-ports.ts';

const malformed = (member: string) =>
  new TwofoldError('integrity_failed', `A stored member is malformed: ${member}.`);

const get = (json: JsonObject, member: string): Json | undefined =>
  Object.hasOwn(json, member) ? json[member] : undefined;

export function readText(json: JsonObject, member: string): string {
  const value = get(json, member);
  if (typeof value !== 'string') throw malformed(member);
  return value;
}

export function readTextOrNull(json: JsonObject, member: string): string | null {
  return get(json, member) === null ? null : readText(json, member);
}

export function readInteger(json: JsonObject, member: string): number {
  const value = get(json, member);
  if (typeof value !== 'number' || !Number.isSafeInteger(value)) throw malformed(member);
  return value;
}

export function readIntegerOrNull(json: JsonObject, member: string): number | null {
  return get(json, member) === null ? null : readInteger(json, member);
}

export function readBoolean(json: JsonObject, member: string): boolean {
  const value = get(json, member);
  if (typeof value !== 'boolean') throw malformed(member);
  return value;
}

/** RFC 3339 as `Date` writes it. */
export function readTime(json: JsonObject, member: string): Date {
  const text = readText(json, member);
  const time = new Date(text);
  if (Number.isNaN(time.getTime()) || time.toISOString() !== text) throw malformed(member);
  return time;
}

export function readTimeOrNull(json: JsonObject, member: string): Date | null {
  return get(json, member) === null ? null : readTime(json, member);
}

export function readTexts(json: JsonObject, member: string): readonly string[] {
  const value = get(json, member);
  if (!isList(value) || value.some((each) => typeof each !== 'string')) throw malformed(member);
  return value as readonly string[];
}

const isList = (value: Json | undefined): value is readonly Json[] => Array.isArray(value);
