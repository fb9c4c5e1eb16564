import { createHash } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { statusDocument } from '../../src/contract/status.ts';
import type { Status } from '../../src/contract/status.ts';
import { durationText } from '../../src/http/status-facts.ts';
import { statusPage } from '../../src/http/status-page.ts';
import { assertListed } from '../contract/observed.ts';
import { sampleStatus } from './sample-status.ts';
import { openService } from './service.ts';
import type { Service } from './service.ts';

const LOCAL = { host: '127.0.0.1', port: 0 };
const BROWSER = 'text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8';

describe('the status page', () => {
  let service: Service;
  let shown: Status;
  let readings = 0;
  beforeAll(async () => {
    shown = sampleStatus();
    const status = () => {
      readings += 1;
      return shown;
    };
    service = await openService({
      options: { admin: LOCAL, metrics: LOCAL },
      replace: () => ({ status }),
    });
  });
  afterAll(() => service.stop());

  const at = (listener: 'http' | 'admin' | 'metrics', path: string) =>
    `http://127.0.0.1:${service.server.address()[listener]?.port ?? 0}${path}`;
  const ask = async (path: string, headers: Record<string, string> = {}, method = 'GET') => {
    const response = await fetch(at('metrics', path), { method, headers });
    const text = await response.text();
    const contentType = response.headers.get('content-type');
    const { status } = response;
    if (method === 'GET') {
      assertListed({ method, path, status, contentType, body: Buffer.from(text) });
    }
    const code = contentType?.includes('problem') === true ? codeOf(text) : '';
    return { status, text, code, type: contentType, headers: response.headers };
  };
  const codeOf = (text: string) => (text === '' ? '' : (JSON.parse(text) as { code: string }).code);
  const later = () => new Promise((resolve) => setTimeout(resolve, 1_010));

  it.each([undefined, '*/*', 'text/html', BROWSER, 'text/*', 'application/json;q=0.5, text/html'])(
    'is HTML for Accept: %s',
    async (accept) => {
      const answer = await ask('/', accept === undefined ? {} : { accept });
      expect([answer.status, answer.type]).toEqual([200, 'text/html; charset=utf-8']);
      expect(answer.text).toMatch(/^<!doctype html>/u);
    },
  );

  it.each(['application/json', 'application/json, text/html;q=0.9', 'application/*'])(
    'is JSON for Accept: %s',
    async (accept) => {
      const { status, type, text } = await ask('/', { accept });
      expect([status, type]).toEqual([200, 'application/json']);
      expect(statusDocument.parse(JSON.parse(text))).toEqual(shown);
    },
  );

  it('is nothing else', async () => {
    const answer = await ask('/', { accept: 'image/png' });
    expect([answer.status, answer.code]).toEqual([406, 'not_acceptable']);
  });

  it('may be kept, framed, sniffed, scripted and followed by nobody', async () => {
    for (const accept of ['text/html', 'application/json']) {
      const { headers } = await ask('/', { accept });
      expect(Object.fromEntries(headers)).toMatchObject({
        'cache-control': 'no-store',
        'x-content-type-options': 'nosniff',
        'referrer-policy': 'no-referrer',
        'x-frame-options': 'DENY',
        'cross-origin-resource-policy': 'same-origin',
        vary: 'Accept',
      });
      const policy = headers.get('content-security-policy')?.split('; ') ?? [];
      expect(policy).toEqual([
        "default-src 'none'",
        expect.stringMatching(/^style-src 'sha256-[\w+/]{43}='$/u),
        'img-src data:',
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
      ]);
    }
  });

  it('needs nothing from elsewhere, and its policy allows its style alone', async () => {
    const { text, headers } = await ask('/');
    const styles = [...text.matchAll(/<style>([^<]*)<\/style>/gu)];
    expect(styles).toHaveLength(1);
    const hash = createHash('sha256')
      .update(styles[0]?.[1] ?? '')
      .digest('base64');
    expect(headers.get('content-security-policy')).toContain(`style-src 'sha256-${hash}'`);
    expect(text).not.toMatch(/<script|\son\w+=|\sstyle=|javascript:|@import|url\(/iu);
    const links = [...text.matchAll(/\s(?:href|src)="([^"]*)"/gu)].map(([, link = '']) => link);
    expect(links.length).toBeGreaterThan(1);
    for (const link of links) expect(link).toMatch(/^(?:\/|data:image\/svg\+xml,)/u);
    expect(links.filter((link) => link.startsWith('//'))).toEqual([]);
  });

  it('answers HEAD without a body, and no other method', async () => {
    const whole = await ask('/');
    const head = await ask('/', {}, 'HEAD');
    expect([head.status, head.text, head.type]).toEqual([200, '', 'text/html; charset=utf-8']);
    expect(head.headers.get('content-length')).toBe(String(Buffer.byteLength(whole.text)));
    for (const method of ['POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']) {
      const answer = await ask('/', {}, method);
      expect([method, answer.status, answer.code]).toEqual([method, 405, 'method_not_allowed']);
      expect(answer.headers.get('allow')).toBe('GET, HEAD');
    }
    for (const path of ['/status', '/index.html', '/favicon.ico', '//', '/Metrics']) {
      const answer = await ask(path);
      expect([path, answer.status, answer.code]).toEqual([path, 404, 'route_not_found']);
    }
  });

  it('refuses what it does not know', async () => {
    for (const [path, code] of [
      ['/?unknown=1', 'unknown_parameter'],
      ['/?refresh', 'invalid_value'],
      ['/?refresh=5', 'invalid_value'],
      ['/?refresh=off&refresh=off', 'unknown_parameter'],
    ] as const) {
      const answer = await ask(path);
      expect([path, answer.status, answer.code]).toEqual([path, 400, code]);
    }
    const ours = await ask('/', { 'Twofold-Unknown': '1' });
    expect([ours.status, ours.code]).toEqual([400, 'unknown_parameter']);
  });

  it('holds still when told to', async () => {
    const renewed = await ask('/');
    const still = await ask('/?refresh=off');
    expect(renewed.text).toContain('http-equiv="refresh"');
    expect(still.text).not.toContain('http-equiv="refresh"');
  });

  it.each(['http', 'admin'] as const)('is not on the listener %s', async (listener) => {
    for (const accept of ['text/html', 'application/json']) {
      const response = await fetch(at(listener, '/'), { headers: { accept } });
      expect([response.status, codeOf(await response.text())]).toEqual([404, 'route_not_found']);
    }
  });

  it('is read and made once a second, however many ask', async () => {
    await later();
    const [before, started] = [readings, performance.now()];
    const answers = await Promise.all(
      Array.from({ length: 40 }, (_, n) =>
        ask(n % 2 === 0 ? '/' : '/?refresh=off', { accept: n % 3 === 0 ? 'text/html' : '*/*' }),
      ),
    );
    expect(new Set(answers.map(({ text }) => text)).size).toBe(2);
    // One, and one more for every second that a busy machine took over them.
    const seconds = Math.floor((performance.now() - started) / 1000);
    expect(readings).toBeGreaterThan(before);
    expect(readings).toBeLessThanOrEqual(before + 1 + seconds);
    await later();
    await ask('/');
    const fresh = readings;
    shown = sampleStatus({ version: '9.9.9' });
    expect((await ask('/')).text).not.toContain('9.9.9');
    await later();
    expect((await ask('/')).text).toContain('9.9.9');
    expect(readings).toBe(fresh + 1);
  });

  it('is answered while the service is not ready', async () => {
    const checks = [{ name: 'hsm', ready: false, state: 'pin-refused' }];
    shown = sampleStatus({ readiness: { ready: false, checks } });
    await later();
    const { status, text } = await ask('/');
    expect(status).toBe(200);
    expect(text).toContain('Not ready');
    expect(text).toContain('pin-refused');
  });
});

describe('what the status page says', () => {
  const MARK = '<script>alert("zone")</script>';

  it('escapes every text', () => {
    const base = sampleStatus();
    const marked = JSON.parse(
      JSON.stringify(base, (name, value: unknown) =>
        typeof value === 'string' && !['mode', 'kind', 'custody'].includes(name) ? MARK : value,
      ),
    ) as Status;
    const page = statusPage(marked, true);
    expect(page).not.toMatch(/<script|"zone"/u);
    expect(page.match(/&lt;script&gt;alert\(&quot;zone&quot;\)/gu)?.length).toBeGreaterThan(20);
  });

  it('shows development loudly, and production without it', () => {
    expect(statusPage(sampleStatus({ mode: 'dev' }), true)).toContain('class="dev"');
    expect(statusPage(sampleStatus(), true)).not.toContain('class="dev"');
  });

  it('shows every check with its word, and each mechanism and suite', () => {
    const status = sampleStatus();
    const page = statusPage(status, true);
    const { checks } = status.readiness;
    expect(page.match(/<code>ok<\/code>/gu)?.length).toBeGreaterThanOrEqual(checks.length);
    for (const { name } of status.hsm.mechanisms) expect(page).toContain(`>${name}<`);
    for (const { id } of status.suites) expect(page).toContain(`>${id}<`);
    for (const text of ['1.2.3', 'zone-a', status.instance, 'Model One', '18.4', 'verify-full']) {
      expect(page).toContain(text);
    }
  });

  it('shows each worker where there are several, and none where one process is alone', () => {
    const worker = {
      instance: null,
      ready: true,
      state: 'ok',
      uptimeSeconds: 61,
      connections: 12,
      restarts: 0,
    };
    const workers = [
      { ...worker, worker: 1 },
      { ...worker, worker: 2, ready: false, state: '<fenced>', restarts: 3 },
    ];
    const { readiness } = sampleStatus();
    const of = { ...readiness, workers: { ready: 1, of: 2 } };
    const page = statusPage(sampleStatus({ workers, readiness: of }), true);
    expect(page).toContain('1 of 2 workers are ready.');
    expect(page).toMatch(/Worker 1[^]*<code>ok<\/code> 12 open/u);
    expect(page).toMatch(
      /Worker 2[^]*<code class="poor">&lt;fenced&gt;<\/code>[^]*replaced 3 times/u,
    );
    expect(statusPage(sampleStatus(), true)).not.toMatch(/worker/iu);
  });

  it('marks words that are not as they should be', () => {
    const marked = (status: Status) =>
      [...statusPage(status, true).matchAll(/<code class="poor">([\w-]*)<\/code>/gu)].map(
        ([, word]) => word,
      );
    const { hsm, database, audit } = sampleStatus();
    expect(marked(sampleStatus())).toEqual([]);
    const poor = sampleStatus({
      hsm: { ...hsm, state: 'session-lost', custody: 'unknown' },
      database: { ...database, state: 'fenced' },
      audit: { ...audit, state: 'not-durable' },
    });
    expect(marked(poor)).toEqual(['session-lost', 'unknown', 'fenced', 'not-durable']);
  });

  it.each([
    [0, '0 s'],
    [59, '59 s'],
    [60, '1 min'],
    [3_725, '1 h 2 min'],
    [86_400, '1 d'],
    [200_000, '2 d 7 h'],
    [40_000_000, '462 d 23 h'],
  ])('writes %d seconds as %s', (seconds, text) => {
    expect(durationText(seconds)).toBe(text);
  });
});
