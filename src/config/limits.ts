/** The part of the schema about bodies, batches, rates and quotas. */
import { z } from 'zod';

const described = <T extends z.ZodType>(schema: T, description: string): T =>
  schema.meta({ description });

/** Of rates and of quotas: as much as a namespace may set (`contract/limits.ts`). */
const MOST = 100_000_000;

const perMinute = (what: string) =>
  described(
    z.int().min(0).max(MOST).default(0),
    `Most ${what} in a minute, over all instances; each item of a batch counts. Ten seconds' worth may come at once. 0: no limit of the configuration.`,
  );

const inPeriod = (what: string, period: 'day' | 'month') =>
  described(
    z.int().min(0).max(MOST).default(0),
    `Most ${what} in a ${period} of UTC, over all instances; counted like the quotas that a namespace sets. 0: no quota of the configuration.`,
  );

const BY_PRINCIPAL = 'uses of keys by one principal, over all namespaces,';
const OF_NAMESPACE = 'uses of keys of one namespace';
const OF_KEY = 'uses of one key';

export const limitsSchema = z
  .strictObject({
    bodyBytes: described(z.int().min(1024).max(8_388_608).default(1_048_576), 'Largest body.'),
    wrapBytes: described(z.int().min(32).max(65_536).default(65_536), 'Largest wrapped plaintext.'),
    batchItems: described(z.int().min(1).max(1000).default(1000), 'Most items of a batch.'),
    batchBytes: described(
      z.int().min(1024).max(8_388_608).default(8_388_608),
      'Largest batch body.',
    ),
    unauthenticatedPerMinute: described(
      z.int().min(1).max(1_000_000).default(600),
      'Refused requests of one source in a minute after which those without a token are turned away and its tokens are checked four at a time; shared out among the workers.',
    ),
    unauthenticatedSources: described(
      z.int().min(1).max(1_000_000).default(10_000),
      'Sources that a worker counts one by one; further ones share a counter.',
    ),
    principalPerMinute: perMinute('uses of keys by one principal, over all namespaces'),
    adminPerMinute: perMinute('requests under `/v1/admin` of one principal, over all namespaces'),
    namespacePerMinute: perMinute(OF_NAMESPACE),
    keyPerMinute: perMinute(OF_KEY),
    principalUsesPerDay: inPeriod(BY_PRINCIPAL, 'day'),
    principalUsesPerMonth: inPeriod(BY_PRINCIPAL, 'month'),
    namespaceUsesPerDay: inPeriod(OF_NAMESPACE, 'day'),
    namespaceUsesPerMonth: inPeriod(OF_NAMESPACE, 'month'),
    keyUsesPerDay: inPeriod(OF_KEY, 'day'),
    keyUsesPerMonth: inPeriod(OF_KEY, 'month'),
    rewrapItemsPerSecond: described(
      z.int().min(1).max(100_000).default(2000),
      'Most items a second of one rewrap job, over all instances.',
    ),
    runningOperations: described(
      z.int().min(1).max(1000).default(20),
      'Most running operations (rewrap jobs) of one principal.',
    ),
  })
  .prefault({});
