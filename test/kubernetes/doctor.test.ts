/** `twofold kms-plugin doctor` as whoever runs it: what cannot be looked at is one finding, and no good file is accused. */
import { chownSync, lchownSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, expect, jest, test } from '@jest/globals';

import { doctorPlugin } from '../../src/main/kms-plugin/doctor.ts';
import { openAgentForm } from './agent-form.ts';
import type { AgentForm } from './agent-form.ts';

/** The user of the agent's container. */
const AGENT = 10_001;
const isRoot = process.geteuid?.() === 0;

let form: AgentForm;
let token: string;
beforeAll(async () => {
  form = await openAgentForm('A256GCM');
});
afterAll(() => form.close());
beforeEach(async () => {
  token = join(form.folder, 'token-of-the-agent');
  writeFileSync(token, await form.service.token('admin'), { mode: 0o400 });
});
afterEach(() => {
  jest.restoreAllMocks();
  rmSync(token);
});

async function said(...argv: string[]): Promise<string> {
  const lines: string[] = [];
  await doctorPlugin(argv, (line) => lines.push(line));
  return lines.join('\n');
}
const service = () => [
  ...['--server', form.service.url, '--key', 'secrets', '--cluster', 'c1'],
  ...['--token-file', token],
];
/** As root, of an agent that is another user; who is not root is taken for it, and the agent for who that is. */
const asRoot = () => {
  if (isRoot) for (const path of [token, form.socket]) lchownSync(path, AGENT, AGENT);
  else jest.spyOn(process, 'geteuid').mockReturnValue(0);
};

test('a configuration that cannot be read is one finding among the others', async () => {
  const config = join(form.folder, 'nowhere.yaml');
  const output = await said('--socket', form.socket, '--config', config, ...service());
  for (const what of ['socket', 'status', 'round trip', 'identity']) {
    expect(output).toMatch(new RegExp(`^ok +${what}: `, 'mu'));
  }
  expect(output).toMatch(/^WRONG configuration: .*nowhere\.yaml cannot be read/mu);
});

test('root reads the files of whoever has the socket, or its folder while no agent runs', async () => {
  asRoot();
  expect(await said('--socket', form.socket, ...service())).toMatch(/^ok +identity: a token$/mu);
  if (isRoot) chownSync(form.folder, AGENT, AGENT);
  const away = join(form.folder, 'away.sock');
  const output = await said('--socket', away, ...service());
  expect(output).toMatch(/^WRONG socket: /mu);
  expect(output).toMatch(/^ok +identity: a token$/mu);
});

test("and nobody else's, nor what is open to others", async () => {
  asRoot();
  expect(await said(...service())).toMatch(/^WRONG identity: .*belongs to another user/mu);
  rmSync(token);
  writeFileSync(token, await form.service.token('admin'), { mode: 0o440 });
  const open = await said('--socket', form.socket, ...service());
  expect(open).toMatch(/^WRONG identity: .*is open to others/mu);
});
