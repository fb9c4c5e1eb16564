/** Positions of sinks in the database: moved by compare-and-swap, and good after kill -9. */
import { spawn } from 'node:child_process';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it } from '@jest/globals';
import { onEachMajor } from './majors.ts';

const SIZE = 600;
const CHILD = join(import.meta.dirname, 'sink-child.ts');

onEachMajor('positions of sinks', (test) => {
  it('begin once, and move only from where they stand', async () => {
    const position = test.store().sinks.position('one');
    const other = test.store().sinks.position('one');
    expect(await position.next()).toBeNull();
    expect(await position.advance(null, 5)).toBe(true);
    expect(await other.advance(null, 0)).toBe(false);
    expect(await position.advance(4, 9)).toBe(false);
    expect(await position.advance(5, 9)).toBe(true);
    expect(await other.next()).toBe(9);
    expect(await test.store().sinks.position('two').next()).toBeNull();
    const [one, ...more] = await test.store().sinks.all();
    expect([one?.name, one?.next, more]).toEqual(['one', 9, []]);
    expect(one?.quietMs).toBeGreaterThanOrEqual(0);
    expect(one?.quietMs).toBeLessThan(60_000);
  });

  it('are those of sinks that are served while their receiver is away', async () => {
    const position = test.store().sinks.position('away');
    await position.advance(null, 5);
    const quiet = async () =>
      (await test.store().sinks.all()).find(({ name }) => name === 'away')?.quietMs ?? Infinity;
    const before = await quiet();
    await sleep(2_000);
    expect(await quiet()).toBeGreaterThanOrEqual(before + 1_900);
    await position.stay?.(5);
    expect(await quiet()).toBeLessThan(before + 1_500);
    // Another served it meanwhile: nothing is said of where it is not.
    await sleep(300);
    const since = await quiet();
    await position.stay?.(4);
    expect(await quiet()).toBeGreaterThanOrEqual(since);
    expect(await position.next()).toBe(5);
  });

  it('lose nothing and repeat one delivery at most when the process is killed', async () => {
    const got: number[] = [];
    const server = createServer((request, response) => {
      const parts: Buffer[] = [];
      request.on('data', (part: Buffer) => parts.push(part));
      request.on('end', () => {
        const lines = Buffer.concat(parts).toString().trim().split('\n');
        for (const line of lines) got.push((JSON.parse(line) as { index: number }).index);
        response.end();
      });
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const url = `http://127.0.0.1:${String((server.address() as AddressInfo).port)}/`;
    const run = async (killAt: number): Promise<number | null> => {
      const argv = [CHILD, test.database().appUrl, url, String(SIZE)];
      const child = spawn(process.execPath, argv, { stdio: 'ignore' });
      const timer = setInterval(() => {
        if (got.length >= killAt) child.kill('SIGKILL');
      }, 1);
      const code = await new Promise<number | null>((resolve) => child.on('exit', resolve));
      clearInterval(timer);
      return code;
    };
    let kills = 0;
    for (const killAt of [1, 150, 300]) if ((await run(killAt)) === null) kills += 1;
    expect(await run(Infinity)).toBe(0);
    server.closeAllConnections();
    server.close();
    expect(kills).toBeGreaterThan(0);
    expect([...new Set(got)]).toEqual(Array.from({ length: SIZE }, (_, index) => index));
    expect(got.length).toBeLessThanOrEqual(SIZE + kills * 4);
    expect(await test.store().sinks.position('killed').next()).toBe(SIZE);
  }, 60_000);
});
