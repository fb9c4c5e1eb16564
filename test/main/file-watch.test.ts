import { mkdtempSync, renameSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { execFileSync } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from '@jest/globals';
import { FileWatch } from '../../src/main/file-watch.ts';
import { eventually } from '../store/eventually.ts';

let folder: string;
let watch: FileWatch;
let taken: string[];
let reads: number;
let said: string[];
const at = (name: string) => join(folder, name);

/** Takes a text that is `good…`, and refuses any other. */
const open = (everyMs: number) => {
  watch = new FileWatch({
    info: (fields, message) => said.push(`info ${JSON.stringify(fields)} ${message}`),
    error: (_fields, message) => said.push(`error ${message}`),
  });
  watch.add({
    name: 'it',
    paths: [at('it')],
    read: async () => {
      reads += 1;
      const text = await readFile(at('it'), 'utf8');
      if (!text.startsWith('good')) throw new Error('not good');
      return () => taken.push(text);
    },
  });
  watch.start(everyMs);
};

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'twofold-watch-'));
  [taken, said, reads] = [[], [], 0];
});
afterEach(async () => {
  await watch.close();
  rmSync(folder, { recursive: true });
});
const last = () => taken.at(-1);

it('takes what was renamed, written in place, or put behind a link', async () => {
  writeFileSync(at('it'), 'good 1');
  open(20);
  await eventually(async () => last() === 'good 1');
  writeFileSync(at('next'), 'good 2');
  renameSync(at('next'), at('it'));
  await eventually(async () => last() === 'good 2');
  writeFileSync(at('it'), 'good 3');
  await eventually(async () => last() === 'good 3');
  writeFileSync(at('other'), 'good 4');
  symlinkSync(at('other'), at('link'));
  renameSync(at('link'), at('it'));
  await eventually(async () => last() === 'good 4');
  expect(taken).toEqual(['good 1', 'good 2', 'good 3', 'good 4']);
});

it('says a refusal once, keeps what was taken, and says when it is over', async () => {
  writeFileSync(at('it'), 'good 1');
  open(10);
  await eventually(async () => last() === 'good 1');
  for (const spoil of [
    () => truncateSync(at('it')),
    () => rmSync(at('it')),
    () => execFileSync('mkfifo', [at('it')]),
  ]) {
    spoil();
    await eventually(async () => watch.refused.length === 1);
    expect(last()).toBe('good 1');
  }
  await watch.reload();
  const before = said.length;
  await watch.reload();
  await watch.reload();
  expect(said).toHaveLength(before);
  rmSync(at('it'));
  writeFileSync(at('it'), 'good 2');
  await eventually(async () => watch.refused.length === 0);
  expect(last()).toBe('good 2');
  expect(said.at(-1)).toMatch(/^info/u);
});

it('takes nothing that has not stood still, and reads nothing while it does not', async () => {
  writeFileSync(at('it'), 'good 0');
  open(30);
  await eventually(async () => last() === 'good 0');
  const before = reads;
  for (let n = 1; n <= 2_000; n += 1) {
    writeFileSync(at('it'), `good ${String(n)}`);
    if (n % 10 === 0) await new Promise((later) => setTimeout(later, 1));
  }
  // 2,000 changes: a reading at most for each look at which it seemed to stand still.
  expect(reads - before).toBeLessThan(20);
  await eventually(async () => last() === 'good 2000');
});

it('reads at once when asked, once for all who ask while it waits', async () => {
  writeFileSync(at('it'), 'good 1');
  open(3_600_000);
  await watch.reload();
  expect(last()).toBe('good 1');
  writeFileSync(at('it'), 'good 2');
  const before = reads;
  await Promise.all(Array.from({ length: 1_000 }, () => watch.reload()));
  expect(last()).toBe('good 2');
  expect(reads - before).toBeLessThanOrEqual(2);
});

it('does not take what changed while it was read', async () => {
  writeFileSync(at('it'), 'good 1');
  open(3_600_000);
  let turns = 0;
  watch.add({
    name: 'torn',
    paths: [at('torn')],
    read: async () => {
      const text = await readFile(at('torn'), 'utf8');
      turns += 1;
      if (turns === 1) writeFileSync(at('torn'), 'whole');
      return () => taken.push(text);
    },
  });
  writeFileSync(at('torn'), 'half');
  await watch.reload();
  expect(taken).toEqual(['good 1', 'whole']);
});
