import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { CKA } from '../../src/hsm/cryptoki.ts';
import { findObjects, readAttribute } from '../../src/hsm/objects.ts';
import { attributes } from '../../src/hsm/templates.ts';
import { withToken } from './import-keys.ts';
import { makeToken, ROOT } from './token-fixture.ts';
import type { TokenFixture } from './token-fixture.ts';

const CHILD = join(import.meta.dirname, 'token-user-child.ts');
const KILLS = 12;

/** Makes token keys until it is killed; the object ids that it announced. */
async function makeAndKill(folder: string): Promise<string[]> {
  const child = spawn(process.execPath, [CHILD, folder, 'forever'], { stdio: 'pipe' });
  let output = '';
  child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
  while (output === '' && child.exitCode === null) await delay(10);
  await delay(Math.random() * 200);
  child.kill('SIGKILL');
  await once(child, 'close');
  const complete = output.split('\n').slice(0, -1);
  return complete.map((line) => (JSON.parse(line) as { objectId: string }).objectId);
}

describe('token keys whose maker is killed', () => {
  let fixture: TokenFixture;
  beforeEach(async () => {
    fixture = await makeToken();
  });
  afterEach(() => {
    fixture.remove();
  });

  it('are all found again, and nothing else is left', async () => {
    const announced: string[] = [];
    for (let kill = 0; kill < KILLS; kill += 1)
      announced.push(...(await makeAndKill(fixture.folder)));
    expect(announced.length).toBeGreaterThanOrEqual(KILLS);
    const hsm = await fixture.open();
    await hsm.useRoot(ROOT);
    const found = await hsm.tokenKeys(ROOT.installation);
    const ids = found.map(({ objectId }) => Buffer.from(objectId).toString('hex'));
    expect(ids).toEqual(expect.arrayContaining(announced));
    expect(ids.length).toBeLessThanOrEqual(announced.length + KILLS);
    for (const material of found) await hsm.destroyTokenKey(material);
    await hsm.close();
    const left = await withToken(fixture, (connection) =>
      connection.run((session, cryptoki) =>
        findObjects(cryptoki, session, attributes({ token: true })).map((object) =>
          readAttribute(cryptoki, session, object, CKA.LABEL)?.toString('utf8'),
        ),
      ),
    );
    process.stdout.write(`${announced.length} keys announced in ${KILLS} kills\n`);
    expect(left).toEqual(['twofold-root-wrap-1']);
  }, 240_000);
});
