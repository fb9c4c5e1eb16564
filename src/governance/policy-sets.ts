/** Stored policies as a set that decides. */
import { createHash } from 'node:crypto';

import { readSchema } from '../access/cedar-schema.ts';
import { PolicySet } from '../access/policy-set.ts';
import { SCHEMA } from '../access/policies.ts';
import type { SetView } from './sealed-set.ts';
import { compileStored } from './stored-policy.ts';
import type { StoredPolicy } from './stored-policy.ts';

/** The policies of a namespace, ready to decide; they were validated when they were stored. */
export function policySetOf(
  namespace: string,
  {
    revision,
    members,
  }: Pick<SetView<StoredPolicy>, 'revision'> & {
    readonly members: ReadonlyMap<string, { readonly value: StoredPolicy }>;
  },
): PolicySet {
  const policies = [...members].map(([id, { value }]) => ({
    id,
    compiled: compileStored(namespace, value),
  }));
  const texts = policies.map(({ id, compiled }) => [id, compiled.digest]);
  const said = JSON.stringify([SCHEMA, namespace, revision, texts]);
  const digest = createHash('sha256').update(said).digest('hex').slice(0, 32);
  return new PolicySet(readSchema(SCHEMA), `${String(revision)}-${digest}`, policies);
}
