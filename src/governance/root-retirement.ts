/**
 * The end of a generation of the root, for the command that then destroys its object on the token: the
 * database proves in one transaction that nothing is under it, and every instance drops what it had read.
 */
import type { Grant } from '../access/grant.ts';
import { Changes, plainPlan } from '../keyring/changes.ts';
import type { ChangeParts } from '../keyring/changes.ts';
import { changeOfRoot, unasked } from '../keyring/root-change.ts';
import { retiredName } from '../keyring/root-ports.ts';
import { requireRoot } from './namespaces.ts';

const SUBJECT = changeOfRoot(retiredName);

/**
 * Resolves once it is durable that nothing is under the generation.
 * @throws TwofoldError conflict where something refers to it, a rotation runs, or it is not retiring
 */
export async function commitRetirement(
  parts: ChangeParts,
  grant: Grant<'root.retire'>,
  generation: number,
): Promise<void> {
  requireRoot(grant);
  const change = { generation, detail: { generation } };
  await new Changes(parts, SUBJECT).run(grant, unasked('local'), () =>
    Promise.resolve(plainPlan(change, [{ kind: 'retire-root-generation', generation }])),
  );
}
