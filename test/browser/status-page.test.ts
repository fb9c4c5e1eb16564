/**
 * The status page of a real service under some load, in a real browser: Debian's package `chromium`,
 * or what CHROMIUM names. `UPDATE_STATUS_PICTURE=1` keeps the service under load for three minutes
 * and writes the picture to `docs/status.png`.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { statusDocument } from '../../src/contract/status.ts';
import { CONTENT_SECURITY_POLICY } from '../../src/http/status-page.ts';
import { TestService } from '../e2e/service.ts';
import { Browser, findChromium } from './chromium.ts';
import { LOW_CONTRAST, PLOTS, STATE, TOO_WIDE, UNNAMED } from './page-checks.ts';
import { decodePng, encodePng } from './png.ts';

const root = join(import.meta.dirname, '../..');
const picture = join(root, 'docs/status.png');
const update = process.env['UPDATE_STATUS_PICTURE'] === '1';
const LOAD_MS = update ? 178_000 : 5_500;
const MOST_BYTES = 150_000;

/** Wraps, signatures, MACs, reads and a few refusals, in waves, from four clients. */
async function load(service: TestService): Promise<void> {
  const keys = { w: 'MLKEM768-P256', s: 'MLDSA65-ECDSA-P256-SHA512', m: 'HS256' };
  for (const [name, suite] of Object.entries(keys)) {
    const { status } = await service.request('POST', '/v1/admin/keys', { name, suite });
    expect(status).toBe(201);
  }
  const message = { message: 'AAAA' };
  const { json } = await service.request('POST', '/v1/keys/w/wrap', { plaintext: 'AAAA' });
  const { ciphertext } = json;
  const unwrap = ['POST', '/v1/keys/w/unwrap', { ciphertext }] as const;
  const sign = ['POST', '/v1/keys/s/sign', message] as const;
  const mac = ['POST', '/v1/keys/m/mac', message] as const;
  const none = ['POST', '/v1/keys/none/wrap', { plaintext: 'AAAA' }] as const;
  const mix = [unwrap, sign, unwrap, mac, unwrap, sign, unwrap, ['GET', '/v1/keys'] as const];
  const until = performance.now() + LOAD_MS;
  const client = async () => {
    for (let n = 0; performance.now() < until; n += 1) {
      const refused = n % 97 === 96;
      const [method, path, body] = refused ? none : (mix[n % mix.length] ?? unwrap);
      await service.request(method, path, body);
      const wave = Math.sin(performance.now() / 9_000) + Math.sin(performance.now() / 23_000);
      await sleep(24 + 9 * wave);
    }
  };
  await Promise.all([client(), client(), client(), client()]);
}

const program = findChromium();

(program === undefined ? describe.skip : describe)('the status page in a browser', () => {
  let service: TestService;
  let browser: Browser;
  let url: string;
  beforeAll(async () => {
    service = await TestService.start();
    browser = await Browser.open(program ?? '');
    url = /^status +(\S+)$/mu.exec(service.output)?.[1] ?? '';
    await load(service);
  }, 60_000 + LOAD_MS);
  afterAll(async () => {
    await service.destroy();
    await browser.close();
  });

  const widths = [320, 1280].flatMap((width) =>
    (['light', 'dark'] as const).map((scheme) => [width, scheme] as const),
  );

  it.each(widths)(
    'at %d pixels, %s: fits, is legible, complains of nothing',
    async (width, scheme) => {
      await browser.visit(`${url}?refresh=off`, width, scheme);
      expect(browser.complaints).toEqual([]);
      expect(browser.fetched.filter((each) => !each.startsWith('data:'))).toEqual([
        `${url}?refresh=off`,
      ]);
      expect(await browser.evaluate(TOO_WIDE)).toEqual([]);
      expect(await browser.evaluate(LOW_CONTRAST)).toEqual([]);
      expect(await browser.evaluate(UNNAMED)).toBe(0);
      expect(await browser.evaluate(STATE)).toEqual({
        title: 'Ready · local · Twofold KMS',
        heading: 'Ready',
        checks: [
          'HSM ok',
          'Database ok',
          'Replication asynchronous',
          'Audit log ok',
          'Sequenced log ok',
          'Backups off',
          'Stored rows ok',
          'Secrets ok',
          'Access ok',
          'Service complete',
        ],
        scripts: 0,
        loud: 'rgb(255, 216, 77)',
        font: '15px',
      });
      const plots = (await browser.evaluate(PLOTS)) as Record<string, number | string>[];
      expect(plots).toHaveLength(4);
      for (const plot of plots) {
        expect(plot).toMatchObject({ height: 150, drawn: true, inside: true });
        expect(plot['width']).toBeGreaterThan(200);
      }
      expect(plots[0]?.['paths']).toBeGreaterThanOrEqual(3);
      expect(plots[1]?.['paths']).toBe(2);
    },
  );

  it('draws what the service says that it did', async () => {
    const response = await fetch(url, { headers: { accept: 'application/json' } });
    const { history } = statusDocument.parse(await response.json());
    expect(Math.max(...history.requests.wrap.map(Number))).toBeGreaterThan(1);
    expect(Math.max(...history.requests.sign.map(Number))).toBeGreaterThan(1);
    expect(history.failed.map(Number).every((rate) => rate === 0)).toBe(true);
    const median = history.p50.findLast((value) => value !== null) ?? 0;
    const slow = history.p99.findLast((value) => value !== null) ?? 0;
    expect(median).toBeGreaterThan(0.05);
    expect(slow).toBeGreaterThanOrEqual(median);
  });

  it('renews itself', async () => {
    await browser.visit(url, 1280, 'light');
    expect(browser.complaints).toEqual([]);
    const content = `document.querySelector('meta[http-equiv=refresh]').content`;
    expect(await browser.evaluate(content)).toBe('10');
  });

  it('is watched: what its policy forbids would be seen here', async () => {
    const forbidden = createServer((_request, response) => {
      response.setHeader('Content-Security-Policy', CONTENT_SECURITY_POLICY);
      response
        .setHeader('Content-Type', 'text/html')
        .end('<p style="color: red">x<script>1</script>');
    });
    await new Promise<void>((listening) => forbidden.listen(0, '127.0.0.1', listening));
    const { port } = forbidden.address() as AddressInfo;
    await browser.visit(`http://127.0.0.1:${port}/`, 1280, 'light');
    forbidden.closeAllConnections();
    forbidden.close();
    const seen = browser.complaints.filter((each) => each.includes('ContentSecurityPolicy'));
    expect(seen.length).toBeGreaterThanOrEqual(2);
  });

  it('makes a picture that a document can carry', async () => {
    await browser.visit(`${url}?refresh=off`, 1120, 'light');
    const taken = decodePng(await browser.picture());
    const small = encodePng(taken);
    expect([taken.width, small.length < MOST_BYTES]).toEqual([1120, true]);
    expect(taken.height).toBeGreaterThan(800);
    if (!update) return;
    mkdirSync(join(root, 'docs'), { recursive: true });
    writeFileSync(picture, small);
  });
});

describe('the picture of the status page', () => {
  it('is small, and the README shows it', () => {
    const bytes = readFileSync(picture);
    expect(bytes.toString('latin1', 1, 4)).toBe('PNG');
    expect(bytes.length).toBeLessThan(MOST_BYTES);
    expect(readFileSync(join(root, 'README.md'), 'utf8')).toContain('(docs/status.png)');
  });
});
