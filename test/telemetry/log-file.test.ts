/** A log that cannot be written costs lines, never the service. */
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';

import { LogFile } from '../../src/telemetry/log-file.ts';
import { eventually } from '../store/eventually.ts';

describe('a log file', () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'twofold-log-'));
  });
  afterEach(() => {
    rmSync(folder, { recursive: true });
  });

  it('keeps every line and their order, in the background and at the end', async () => {
    const path = join(folder, 'log');
    const file = new LogFile(openSync(path, 'a', 0o600));
    const lines = Array.from({ length: 5_000 }, (_, index) => `line ${String(index)}`);
    for (const line of lines) file.write(`${line}\n`);
    const text = () => readFileSync(path, 'utf8');
    await eventually(async () => text().split('\n').length === lines.length + 1);
    expect(text()).toBe(`${lines.join('\n')}\n`);
    file.write('in flight\n');
    await eventually(async () => text().endsWith('in flight\n'));
    const other = new LogFile(openSync(path, 'a', 0o600));
    other.write('first\n');
    other.write('last\n');
    other.flush();
    await eventually(async () => text().includes('first\n'));
    expect(text()).toContain('last\n');
  });

  it('drops what waits beyond its bound, and says how many lines those were', async () => {
    const path = join(folder, 'log');
    const file = new LogFile(openSync(path, 'a', 0o600));
    const line = `${'x'.repeat(65_535)}\n`;
    for (let index = 0; index < 100; index += 1) file.write(line);
    const notices = () =>
      readFileSync(path, 'utf8')
        .split('\n')
        .filter((text) => text.startsWith('{'))
        .map((text) => (JSON.parse(text) as { dropped: number }).dropped);
    const kept = () => readFileSync(path, 'utf8').split('xxx\n').length - 1;
    await eventually(async () => notices().length === 1 && (notices()[0] ?? 0) + kept() === 100);
    expect(kept()).toBeGreaterThan(60);
  });

  it('on a full disk neither throws nor hangs, at work and at the end', async () => {
    const failures: unknown[] = [];
    const note = (error: unknown) => void failures.push(error);
    process.on('uncaughtException', note);
    const full = openSync('/dev/full', 'w');
    const file = new LogFile(full);
    const began = performance.now();
    for (let index = 0; index < 10; index += 1) file.write('x\n');
    await new Promise((resolve) => setTimeout(resolve, 100));
    file.write('y\n');
    file.write('z\n');
    file.flush();
    await new Promise((resolve) => setTimeout(resolve, 100));
    closeSync(full);
    process.off('uncaughtException', note);
    expect(failures).toEqual([]);
    expect(performance.now() - began).toBeLessThan(5_000);
  });
});
