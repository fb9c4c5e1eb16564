import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';

import { createMetrics } from '../../src/telemetry/metrics.ts';
import type { Figures, Metrics } from '../../src/telemetry/metrics.ts';
import { WholeMetrics } from '../../src/telemetry/whole-metrics.ts';

let workers: Metrics[];

beforeEach(() => {
  workers = [1, 2].map((worker) => createMetrics({ version: '1', routes: ['whoami'], worker }));
});
afterEach(() => workers.forEach((each) => each.close()));

const request = (code: string | null = null) => ({
  route: 'whoami',
  method: 'GET',
  status: code === null ? 200 : 403,
  code,
  milliseconds: 3,
});
const figures = () => Promise.all(workers.map((each) => each.figures()));
/** Workers that have answered. */
const having = (all: readonly Figures[]) => () =>
  all.map((lastFigures) => ({ lastFigures, ask: () => Promise.resolve() }));
const valueIn = (body: string, sample: string): number | undefined => {
  const line = body.split('\n').find((each) => each.startsWith(`${sample} `));
  return line === undefined ? undefined : Number(line.slice(sample.length));
};
const COUNT = 'twofold_http_request_seconds_count{route="whoami",method="GET",status="200"}';
const BUCKET =
  'twofold_http_request_seconds_bucket{le="0.005",route="whoami",method="GET",status="200"}';

describe('metrics of several workers', () => {
  it('are sums of what is counted, in the text of one', async () => {
    const [one, two] = workers;
    for (let n = 0; n < 3; n += 1) one?.request(request());
    two?.request(request());
    two?.request(request('forbidden'));
    const { contentType, body } = await new WholeMetrics().render(having(await figures()));
    expect(contentType).toBe((await one?.renderMetrics())?.contentType);
    expect(valueIn(body, COUNT)).toBe(4);
    expect(valueIn(body, BUCKET)).toBe(4);
    expect(valueIn(body, 'twofold_http_errors_total{route="whoami",code="forbidden"}')).toBe(1);
    expect(valueIn(body, 'twofold_build_info{version="1"}')).toBe(1);
  });

  it('name the worker where a sum would mean nothing', async () => {
    const [one, two] = workers;
    one?.gauge('waiting', 'Entries.', () => 3);
    two?.gauge('waiting', 'Entries.', () => 4);
    one?.gauge('failures', 'In a row.', () => 3, 'max');
    two?.gauge('failures', 'In a row.', () => 2, 'max');
    one?.gauge('works', 'A part.', () => ({ hsm: 1 }), 'each');
    two?.gauge('works', 'A part.', () => ({ hsm: 0 }), 'each');
    const { body } = await new WholeMetrics().render(having(await figures()));
    expect(valueIn(body, 'twofold_waiting')).toBe(7);
    expect(valueIn(body, 'twofold_failures')).toBe(3);
    expect(valueIn(body, 'twofold_works{kind="hsm",worker="1"}')).toBe(1);
    expect(valueIn(body, 'twofold_works{kind="hsm",worker="2"}')).toBe(0);
    expect(body).toContain('twofold_memory_bytes{kind="resident",worker="2"}');
  });

  it('never fall when workers end, and show no gauge of what has ended', async () => {
    const whole = new WholeMetrics();
    const [one, two] = workers;
    for (const each of workers) for (let n = 0; n < 5; n += 1) each.request(request());
    two?.gauge('waiting', 'Entries.', () => 4);
    for (const each of workers) await whole.end(await each.figures());
    one?.request(request());
    const { body } = await whole.render(having([await (one as Metrics).figures()]));
    expect(valueIn(body, COUNT)).toBe(16);
    expect(valueIn(body, BUCKET)).toBe(16);
    expect(valueIn(body, 'twofold_waiting')).toBeUndefined();
  });

  it('count each once whose workers end together, while they are asked', async () => {
    const whole = new WholeMetrics();
    for (const each of workers) for (let n = 0; n < 5; n += 1) each.request(request());
    const answers = Promise.withResolvers<null>();
    const all = await figures();
    let running = all.map((lastFigures) => ({ lastFigures, ask: () => answers.promise }));
    const rendered = whole.render(() => running);
    const ends = all.map((each) => whole.end(each));
    running = [];
    answers.resolve(null);
    expect(valueIn((await rendered).body, COUNT)).toBe(10);
    await Promise.all(ends);
    expect(valueIn((await whole.render(having([]))).body, COUNT)).toBe(10);
    await whole.end(all[0] ?? []);
    expect(valueIn((await whole.render(having([]))).body, COUNT)).toBe(15);
  });

  it('survive the way through JSON', async () => {
    workers[0]?.request(request());
    const sent = JSON.parse(JSON.stringify(await figures())) as Awaited<ReturnType<typeof figures>>;
    const { body } = await new WholeMetrics().render(having(sent));
    expect(valueIn(body, COUNT)).toBe(1);
    expect(body).toContain('le="+Inf"');
    expect(body).not.toMatch(/NaN|null/u);
  });
});
