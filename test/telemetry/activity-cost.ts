/** Prints what counting one request costs, in ns. A process of its own: jest's globals are slow. */
import { ROUTES } from '../../src/contract/routes.ts';
import { REQUEST_GROUPS, requestGroupOf } from '../../src/contract/status.ts';
import type { RequestGroup } from '../../src/contract/status.ts';
import { Activity } from '../../src/telemetry/activity.ts';

const COUNT = 1_000_000;
const groups = new Map(ROUTES.map((route) => [route.id, requestGroupOf(route)]));
const activity = new Activity<RequestGroup>({
  groups: REQUEST_GROUPS,
  groupOf: (route) => (route === null ? 'other' : (groups.get(route) ?? null)),
  queued: () => 0,
});
const ids = ROUTES.map(({ id }) => id);
const requests = Array.from({ length: 1_000 }, (_, n) => ({
  route: ids[n % ids.length] ?? null,
  method: 'POST',
  status: n % 50 === 0 ? 422 : 200,
  code: null,
  milliseconds: 0.2 + (n % 97) / 31,
}));

function once(): number {
  const began = performance.now();
  for (let n = 0; n < COUNT; n += 1) {
    const figures = requests[n % requests.length];
    if (figures !== undefined) activity.request(figures);
  }
  return ((performance.now() - began) * 1e6) / COUNT;
}

once();
console.log(Math.min(once(), once(), once()).toFixed(1));
