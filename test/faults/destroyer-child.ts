/**
 * A process that destroys a key with an object in the token, and stops at a point of it until it is killed:
 * `before` its change commits, or with the token about to destroy the object (`between`). Prints what it made,
 * then `at`.
 */
import { setInterval } from 'node:timers';
import { openStore } from '../../src/store/store.ts';
import { ROOT, tokenIn } from '../hsm/token-fixture.ts';
import { openStoredInstance } from '../keyring/stored-instance.ts';
import { aRun } from '../keyring/world.ts';

const [folder = '', url = '', point = ''] = process.argv.slice(2);
const say = (line: object) => process.stdout.write(`${JSON.stringify(line)}\n`);
const stopHere = (): Promise<never> => {
  say({ at: point });
  setInterval(() => undefined, 1_000);
  return new Promise<never>(() => undefined);
};

const token = await (await tokenIn(folder, false)).open({ stateDir: `${folder}/child` });
await token.useRoot(ROOT);
const hsm = new Proxy(token, {
  get(target, name) {
    if (name === 'destroyTokenKey' && point === 'between') return stopHere;
    const value: unknown = Reflect.get(target, name, target);
    return typeof value === 'function' ? (value.bind(target) as unknown) : value;
  },
});
// The database leaves the time to this clock.
let now = Date.now() - 31 * 86_400_000;
let destroying = false;
const opened = openStore({ url });
const store = {
  ...opened,
  keys: {
    ...opened.keys,
    commit: (...change: Parameters<typeof opened.keys.commit>) =>
      destroying && point === 'before' ? stopHere() : opened.keys.commit(...change),
  },
};
const service = await openStoredInstance(store, { hsm, clock: () => new Date(now) });
const id = await service.create({ suite: 'MLKEM768-X25519', custody: 'hsm-token' });
const { lifecycle } = service.keyring;
const reason = { reason: 'a drill' };
const grant = service.grant('keys.schedule-destruction', id);
await lifecycle.scheduleDestruction(grant, reason, aRun({ ifMatch: 1 }));
say({ instance: service.id, key: id });
now = Date.now();
destroying = true;
await lifecycle.destroyKey(service.grant('keys.destroy', id), aRun());
