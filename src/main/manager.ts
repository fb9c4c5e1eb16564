/**
 * What the manager of the database says of its own settings: whether commits would wait for a standby
 * even when none is left. PostgreSQL does not show it; Patroni's REST API tells anybody (`GET /config`).
 *
 * The settings are the cluster's, so the first member that answers speaks for all.
 */
import { readFile } from 'node:fs/promises';
import { request as plainRequest } from 'node:http';
import type { IncomingMessage } from 'node:http';
import { request as tlsRequest } from 'node:https';

import type { Config } from '../config.ts';

/** `unknown`: no manager is named, or none has answered. */
export type Strictness = 'strict' | 'not-strict' | 'unknown';

/** Of all members, which are asked at once. */
const DEADLINE_MS = 1_000;
/** Patroni's settings are some hundred bytes. */
const MAX_BYTES = 65_536;
/** What Patroni takes for true (`parse_bool` of its utils.py). */
const TRUE: readonly unknown[] = ['on', 'true', 'yes', '1'];

const isOn = (value: unknown): boolean => TRUE.includes(String(value).toLowerCase());

/** `quorum` is Patroni 4's word for a synchronous mode with more than one candidate. */
const isSynchronous = (mode: unknown): boolean =>
  isOn(mode) || String(mode).toLowerCase() === 'quorum';

/** By the settings as Patroni stores them; what is no object of settings says nothing. */
export function strictnessOf(settings: unknown): Strictness {
  if (typeof settings !== 'object' || settings === null || Array.isArray(settings))
    return 'unknown';
  const mode: unknown = Reflect.get(settings, 'synchronous_mode');
  const strict: unknown = Reflect.get(settings, 'synchronous_mode_strict');
  return isSynchronous(mode) && isOn(strict) ? 'strict' : 'not-strict';
}

/** Asks the managers that `database.managers` names; never rejects. */
export async function askManagers({
  managers,
  caFile,
}: Pick<Config['database'], 'managers' | 'caFile'>): Promise<Strictness> {
  const asked = managers.map(async (address) => {
    const strictness = strictnessOf(await settingsOf(address, caFile));
    if (strictness === 'unknown') throw new Error('it told no settings');
    return strictness;
  });
  return Promise.any(asked).catch(() => 'unknown' as const);
}

/** The body of a 200 as JSON; no redirect is followed. */
async function settingsOf(address: string, caFile: string | undefined): Promise<unknown> {
  const url = new URL('/config', address);
  const send = url.protocol === 'https:' ? tlsRequest : plainRequest;
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  const signal = AbortSignal.timeout(DEADLINE_MS);
  const ca = caFile === undefined ? {} : { ca: await readFile(caFile, 'utf8') };
  send(url, { agent: false, signal, headers: { accept: 'application/json' }, ...ca }, resolve)
    .on('error', reject)
    .end();
  const answer = await promise;
  try {
    if (answer.statusCode !== 200) throw new Error(`answered with ${String(answer.statusCode)}`);
    return JSON.parse(await bounded(answer)) as unknown;
  } finally {
    answer.destroy();
  }
}

async function bounded(answer: IncomingMessage): Promise<string> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of answer as AsyncIterable<Uint8Array>) {
    length += chunk.length;
    if (length > MAX_BYTES) throw new Error('the answer is too long');
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}
