import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { SENSITIVE_FIELDS } from '../../src/contract/sensitive.ts';
import { SecretBytes } from '../../src/crypto/secret.ts';
import { TwofoldError } from '../../src/errors.ts';
import { LOG_LEVELS, createLogs } from '../../src/telemetry/logs.ts';
import type { Log, LogLevel } from '../../src/telemetry/logs.ts';

const MARK = 'marker-7f3a9c';
const JWT = `eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhIn0.${'A'.repeat(86)}`;

let lines: string[];
beforeEach(() => {
  lines = [];
});

const open = (level: LogLevel = 'trace', sensitive: Iterable<string> = ['plaintext']): Log => {
  const destination = { write: (line: string) => void lines.push(line) };
  return createLogs({ level, sensitive, destination }).component('test');
};
const only = (): Record<string, unknown> => {
  expect(lines).toHaveLength(1);
  return JSON.parse(lines[0] ?? '') as Record<string, unknown>;
};
const logged = (fields: object): Record<string, unknown> => {
  open().info(fields, 'text');
  return only();
};

describe('a log line', () => {
  it('is one JSON object with level, time, component, message and the fields', () => {
    open().warn({ key: 'k', count: 3 }, 'text');
    expect(lines[0]).toMatch(/^\{.*\}\n$/u);
    expect(only()).toEqual({
      level: 'warn',
      time: expect.stringMatching(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/u),
      component: 'test',
      message: 'text',
      key: 'k',
      count: 3,
    });
  });

  it.each(LOG_LEVELS)('is written from %s on when that is the level', (level) => {
    const log = open(level);
    for (const each of LOG_LEVELS) log[each]({}, each);
    const written = lines.map((line) => (JSON.parse(line) as { message: string }).message);
    expect(written).toEqual(LOG_LEVELS.slice(LOG_LEVELS.indexOf(level)));
  });

  it('keeps its own members', () => {
    const line = logged({ level: 'x', time: 'x', component: 'x', message: 'x' });
    expect(line).toMatchObject({ level: 'info', component: 'test', message: 'text', level_: 'x' });
    expect(lines[0]?.match(/"message":/gu)).toHaveLength(1);
  });

  it('takes a percent sign as a percent sign', () => {
    open().info({ a: 1 }, '%s %o %j');
    expect(only()).toHaveProperty('message', '%s %o %j');
  });

  it('holds a request or response only as plain members', () => {
    const line = logged({ method: 'GET', headers: { authorization: MARK }, socket: {} });
    expect(line).toMatchObject({ method: 'GET' });
    expect(line).not.toHaveProperty('req');
  });

  it('is never an exception', () => {
    const bad = {
      get broken(): string {
        throw new Error(MARK);
      },
    };
    expect(logged(bad)).toMatchObject({ message: 'text', unreadable: true });
    expect(lines[0]).not.toContain(MARK);
  });
});

describe('what is sensitive', () => {
  it('is left out at any depth, in any case and in lists', () => {
    logged({
      plaintext: MARK,
      a: { PlainText: MARK, b: [{ plaintext: { c: MARK } }] },
      err: Object.assign(new Error('x'), { plaintext: MARK }),
    });
    expect(lines[0]).not.toContain(MARK);
    expect(lines[0]).toContain('[redacted]');
  });

  it('is what the contract marks', () => {
    expect(SENSITIVE_FIELDS.size).toBeGreaterThan(3);
    const log = open('info', SENSITIVE_FIELDS);
    for (const name of SENSITIVE_FIELDS) log.info({ body: { [name]: MARK } }, 'text');
    expect(lines).toHaveLength(SENSITIVE_FIELDS.size);
    expect(lines.join('')).not.toContain(MARK);
  });

  it('is left out as a token, wherever that stands', () => {
    open().info({ header: `Bearer ${JWT}`, deep: { list: [`x ${JWT}`] } }, `got ${JWT}`);
    expect(lines[0]).not.toContain('eyJ');
    expect(only()).toMatchObject({ header: 'Bearer [token]', message: 'got [token]' });
  });

  it('is left out as bytes', () => {
    const bytes = Buffer.from(MARK);
    const line = logged({
      bytes,
      array: Uint8Array.from(bytes),
      secret: SecretBytes.copyOf(bytes),
    });
    expect(line).toMatchObject({ bytes: '[13 bytes]', array: '[13 bytes]' });
    for (const form of [MARK, bytes.toString('hex'), bytes.toString('base64'), '109,97,114']) {
      expect(lines[0]).not.toContain(form);
    }
  });

  it('is left out whatever surrounds it', () => {
    fc.assert(
      fc.property(fc.object({ maxDepth: 4 }), fc.string(), (fields, name) => {
        lines = [];
        logged({ [name]: fields, nested: { ...fields, plaintext: MARK } });
        expect(lines[0]).not.toContain(MARK);
      }),
    );
  });
});

describe('what has no end', () => {
  it('is cut: texts, lists, depth and cycles', () => {
    const cycle: Record<string, unknown> = {};
    cycle['self'] = cycle;
    const line = logged({
      long: 'x'.repeat(100_000),
      list: Array.from({ length: 1_000 }, () => 1),
      cycle,
      map: new Map([[MARK, MARK]]),
      big: 10n ** 30n,
      odd: [undefined, Symbol('s'), Number.NaN, new Date(NaN), new Date(0)],
    });
    expect(lines[0]?.length).toBeLessThan(5_000);
    expect(line).toMatchObject({
      map: '[Map]',
      big: `1${'0'.repeat(30)}`,
      odd: ['[undefined]', '[symbol]', null, null, '1970-01-01T00:00:00.000Z'],
    });
    expect(lines[0]).toContain('[deeper]');
    expect(lines[0]).not.toContain(MARK);
  });
});

describe('an error', () => {
  const described = (err: unknown) => logged({ err })['err'] as Record<string, unknown>;

  it('of ours shows name, code and message, and of its causes name and code', () => {
    const cause = Object.assign(new Error(MARK), { code: 'ECONNRESET', body: MARK });
    const err = described(new TwofoldError('database_unavailable', 'Come again.', { cause }));
    expect(err).toEqual({
      name: 'TwofoldError',
      code: 'database_unavailable',
      message: 'Come again.',
      causes: [{ name: 'Error', code: 'ECONNRESET' }],
    });
  });

  it('of others shows no message, nor anything that it carries', () => {
    const parse = () => JSON.parse(`{"plaintext":"${MARK}`) as unknown;
    try {
      parse();
    } catch (error) {
      const err = described(Object.assign(error as Error, { body: MARK, raw: Buffer.from(MARK) }));
      expect(Object.keys(err)).toEqual(['name', 'frames']);
      expect(err['name']).toBe('SyntaxError');
    }
    expect(lines[0]).not.toContain(MARK);
  });

  it('inside shows where, without the message that V8 puts before the frames', () => {
    const cause = new TypeError(`${MARK}\n    at ${MARK} (file.ts:1:1)`);
    const err = described(new TwofoldError('internal', undefined, { cause }));
    expect(err).toMatchObject({ code: 'internal', causes: [{ name: 'TypeError' }] });
    expect(String((err['frames'] as string[])[0])).toMatch(/^at .*logs\.test\.ts/u);
    expect(lines[0]).not.toContain(MARK);
  });

  it('shows no frames when its message was changed since', () => {
    const error = new Error(`x\n    at ${MARK} (file.ts:1:1)`);
    expect(error.stack).toContain(MARK);
    error.message = 'other';
    expect(described(error)).toEqual({ name: 'Error', frames: [] });
  });

  it('has a name and code of plain form, or none', () => {
    const error = Object.assign(new Error('x'), { code: `${MARK} with blanks` });
    error.name = `${MARK}\n`;
    expect(described(error)).toMatchObject({ name: 'Error' });
    expect(lines[0]).not.toContain(MARK);
  });

  it('that causes itself comes to an end', () => {
    const one = new Error('one');
    one.cause = new Error('two', { cause: one });
    expect(described(one)['causes']).toEqual([{ name: 'Error' }]);
  });
});

describe('a log file', () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'log-'));
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  it('is private and complete once flushed', async () => {
    const path = join(folder, 'service.log');
    const logs = createLogs({ level: 'info', sensitive: [], destination: path });
    const log = logs.component('test');
    for (let n = 0; n < 1_000; n += 1) log.info({ n }, 'line');
    logs.flush();
    const lines = () => readFileSync(path, 'utf8').trimEnd().split('\n').length;
    // The first line is in the hands of another thread.
    for (let tries = 0; lines() < 1_000 && tries < 100; tries += 1) {
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    expect(lines()).toBe(1_000);
    expect(statSync(path).mode & 0o777).toBe(0o600);
  });
});
