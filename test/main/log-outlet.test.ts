/** Outlets try again and skip what was overtaken; folders never go back. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { parseNote } from '../../src/audit/notes.ts';
import { LogOutlet } from '../../src/main/log-outlet.ts';
import { publish, publishedCopies } from '../../src/main/log-places.ts';
import { MemoryLog } from '../audit/memory-log.ts';
import { testSigner } from '../audit/test-signer.ts';
import type { TestSigner } from '../audit/test-signer.ts';

let signer: TestSigner;
const log = new MemoryLog();
const folder = mkdtempSync(join(tmpdir(), 'twofold-outlet-'));

beforeAll(async () => {
  log.grow(20);
  signer = await testSigner();
});
afterAll(() => rmSync(folder, { recursive: true }));

const noteOf = async (size: number) => {
  const text = await signer.publish(log, size);
  const note = parseNote(text);
  if (note === null) throw new Error('no note');
  return { note, text };
};

describe('an outlet', () => {
  it('delivers the newest of what came while it was busy, and tries again what failed', async () => {
    const delivered: number[] = [];
    const faults: unknown[] = [];
    let fails = 1;
    const outlet = new LogOutlet<number>(
      async (value) => {
        await sleep(10);
        if (value === 3 && fails-- > 0) throw new Error('away');
        delivered.push(value);
      },
      (error) => faults.push(error),
    );
    for (const value of [1, 2, 3]) outlet.offer(value);
    await sleep(2_000);
    expect(delivered).toEqual([1, 3]);
    expect(faults).toHaveLength(1);
    await outlet.stop();
    outlet.offer(4);
    await sleep(30);
    expect(delivered).toEqual([1, 3]);
  });
});

describe('a place', () => {
  it('that is a folder holds the newest, whoever writes late', async () => {
    const [older, newer] = [await noteOf(5), await noteOf(9)];
    await publish({ folder }, newer.note, newer.text);
    await publish({ folder }, older.note, older.text);
    expect(readFileSync(join(folder, 'checkpoint'), 'utf8')).toBe(newer.text);
    const others: string[] = [];
    const copies = () => publishedCopies([{ folder }], (place) => others.push(place));
    const [copy] = await copies();
    expect(copy?.note.checkpoint.size).toBe(9);
    writeFileSync(join(folder, 'checkpoint'), newer.text.slice(0, -9));
    expect([await copies(), others]).toEqual([[], [join(folder, 'checkpoint')]]);
    await publish({ folder }, older.note, older.text);
    expect(await copies()).toHaveLength(1);
  });

  it('that is a URL gets the note by the method that is named, and has to take it', async () => {
    const got: unknown[] = [];
    let status = 200;
    const server = createServer((request, response) => {
      let body = '';
      request.on('data', (chunk: Buffer) => (body += chunk.toString('utf8')));
      request.on('end', () => {
        got.push([request.method, request.url, body]);
        response.writeHead(status, { Location: '/elsewhere' }).end();
      });
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    const { note, text } = await noteOf(7);
    const url = `http://127.0.0.1:${String(port)}/o?sig=1`;
    await publish({ url }, note, text);
    await publish({ url, method: 'POST' }, note, text);
    expect(got).toEqual([
      ['PUT', '/o?sig=1', text],
      ['POST', '/o?sig=1', text],
    ]);
    for (status of [403, 500, 302]) await expect(publish({ url }, note, text)).rejects.toThrow();
    await new Promise((resolve) => server.close(resolve));
  });
});
