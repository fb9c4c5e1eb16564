/** The part of the schema about the Kubernetes KMS v2 provider inside the server. */
import { z } from 'zod';
import { isProviderSuite } from '../crypto/suite.ts';
import type { Suite } from '../crypto/suite.ts';
import { SUITES } from '../crypto/suites.ts';

/** The suite that wraps with a key of the HSM alone. */
const PLAIN_SUITE =
  Object.values(SUITES).find(({ kind }) => kind === 'aead')?.id ?? 'there is none';

const described = <T extends z.ZodType>(schema: T, description: string): T =>
  schema.meta({ description });

/** What stands in an EncryptionConfiguration as `name`; a cluster's name has the same form. */
const label = z
  .string()
  .regex(
    /^[a-zA-Z0-9](?:[-_.a-zA-Z0-9]{0,61}[a-zA-Z0-9])?$/u,
    'must be 1 to 63 letters, digits, "-", "_" or "."',
  );

export const kmsSchema = z
  .strictObject({
    socket: described(
      z.string().min(1).optional(),
      'Unix socket of a Kubernetes KMS v2 provider; its folder has to be there. Without it there is no provider.',
    ),
    key: described(
      z.string().min(1).max(128).optional(),
      "Name of the provider's key, whose suite is A256GCM or a hybrid KEM. Dev makes it where it is not there.",
    ),
    suite: described(
      z.string().min(1).default(PLAIN_SUITE),
      'Suite of the key that dev makes: A256GCM or a hybrid KEM.',
    ),
    cluster: described(
      label.max(50).optional(),
      'Id of the cluster, which every value is bound to; dev has `development` unless told.',
    ),
    provider: described(
      label.default('twofold'),
      'The `name` of the provider in the EncryptionConfiguration, which every value is bound to.',
    ),
    namespace: described(z.string().min(1).max(128).default('default'), 'Namespace of the key.'),
    group: described(
      z.string().min(1).max(64).optional(),
      'Group, by name or number, that may connect too: the socket then has mode 0660, else 0600.',
    ),
  })
  .prefault({});

/** The suite of that id, if a provider may seal with it; else null. */
export function providerSuite(id: string): Suite | null {
  const suite = SUITES[id];
  return suite !== undefined && isProviderSuite(suite) ? suite : null;
}
