/** Where checkpoints are copied to: a folder, an object by PUT, a webhook by POST. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Config } from '../config.ts';
import { readOwnerOnlyFile } from '../config.ts';
import { parseNote } from '../audit/notes.ts';
import type { CheckpointNote } from '../audit/notes.ts';
import { TwofoldError } from '../errors.ts';
import { replaceFile } from './newest-checkpoint.ts';
import type { Seen } from './newest-checkpoint.ts';

export type Target = Config['audit']['publishTo'][number];

const FILE = 'checkpoint';
const TIMEOUT_MS = 10_000;
/** Answers are read no further. */
const MAX_ANSWER = 262_144;

/** A name for logs, without what a presigned URL is signed by. */
export const nameOf = ({ folder, url }: Target): string => {
  if (folder !== undefined) return folder;
  const { origin, pathname } = new URL(url ?? '');
  return `${origin}${pathname}`;
};

/** Rejects with what may be tried again. */
export const publish = async (
  target: Target,
  { checkpoint }: CheckpointNote,
  text: string,
): Promise<void> => {
  const { folder, url, method = 'PUT', tokenFile } = target;
  if (folder !== undefined) {
    const { size = -1 } = (await publishedIn(folder))?.checkpoint ?? {};
    // Another instance has gone further.
    if (size < checkpoint.size) await replaceFile(folder, FILE, text);
    return;
  }
  const { status } = await exchange(url ?? '', method, text, tokenFile);
  if (status < 200 || status > 299) {
    throw new TwofoldError('internal', `${nameOf(target)} answered ${String(status)}.`);
  }
};

/** Undefined: something else is there. */
const publishedIn = async (folder: string): Promise<CheckpointNote | null | undefined> => {
  const text = await readFile(join(folder, FILE), 'utf8').catch((error: unknown) => {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  });
  return text === null ? null : (parseNote(text) ?? undefined);
};

/** What the folders among the targets hold; who signed it is for others to see. `onOther` is told of what is no note. */
export const publishedCopies = async (
  targets: readonly Target[],
  onOther: (place: string) => void,
): Promise<readonly Seen[]> => {
  const copies: Seen[] = [];
  for (const { folder } of targets) {
    if (folder === undefined) continue;
    const place = join(folder, FILE);
    const note = await publishedIn(folder);
    if (note === undefined) onOther(place);
    else if (note !== null) copies.push({ place, note });
  }
  return copies;
};

/** One request with a text body; follows no redirect. Rejects without a whole answer in time. */
export const exchange = async (
  url: string,
  method: 'PUT' | 'POST',
  body: string,
  tokenFile?: string,
): Promise<{ readonly status: number; readonly body: string }> => {
  const token =
    tokenFile === undefined
      ? undefined
      : Buffer.from(readOwnerOnlyFile(tokenFile, 0o007)).toString('utf8').trim();
  const response = await fetch(url, {
    method,
    body,
    redirect: 'error',
    headers: {
      'Content-Type': 'text/plain; charset=utf-8',
      ...(token === undefined ? {} : { Authorization: `Bearer ${token}` }),
    },
    signal: AbortSignal.timeout(TIMEOUT_MS),
  });
  return { status: response.status, body: await bounded(response) };
};

const bounded = async ({ body }: Response): Promise<string> => {
  if (body === null) return '';
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of body) {
    const bytes = chunk as Uint8Array;
    size += bytes.length;
    if (size > MAX_ANSWER) throw new TwofoldError('invalid_value', 'The answer is too long.');
    chunks.push(bytes);
  }
  return Buffer.concat(chunks).toString('utf8');
};
