/**
 * Who may import whom: the one table, which `test/architecture.test.ts` enforces and ARCHITECTURE.md
 * quotes (see `rulesAsMarkdown`).
 *
 * A part is a folder of `src/` or a file at its root, named without `.ts`. A part may import itself,
 * the parts listed, and single files listed with their path; `type` before a file allows type-only
 * imports of it, which is how a domain module sees a neighbour's port.
 */
export const IMPORTS: Readonly<Record<string, readonly string[]>> = {
  errors: [],
  name: [],
  epoch: [],
  duration: [],
  leader: [],
  outcome: ['errors'],
  settled: ['errors'],
  crypto: ['errors', 'name'],
  limits: ['errors', 'outcome'],
  contract: ['errors', 'name', 'duration'],
  /** The recovery key and its shares. */
  recovery: ['errors', 'name', 'crypto'],
  hsm: ['errors', 'name', 'settled', 'crypto', 'recovery'],
  backup: [
    'errors',
    'name',
    'crypto',
    'recovery',
    'audit/tree/vkey.ts',
    /** Chunks are those of sealed files. */
    'client/chunk-cipher.ts',
    'client/chunk-layout.ts',
    'client/client-error.ts',
  ],
  keyring: [
    'errors',
    'name',
    'duration',
    'epoch',
    'outcome',
    'settled',
    'crypto',
    'type hsm/port.ts',
    'type access/grant.ts',
    'audit/ports.ts',
    'type audit/key-ports.ts',
  ],
  access: ['errors', 'name', 'epoch', 'crypto'],
  audit: ['errors', 'name', 'epoch', 'leader', 'outcome', 'crypto', 'type hsm/port.ts'],
  rotation: [
    'errors',
    'name',
    'epoch',
    'leader',
    'crypto/engine.ts',
    'crypto/suite.ts',
    'crypto/suites.ts',
    'type crypto/hsm-key.ts',
    'keyring',
    'audit/ports.ts',
    'type access/grant.ts',
    'type access/ports.ts',
  ],
  store: [
    'errors',
    'name',
    'epoch',
    'outcome',
    'keyring/ports.ts',
    'keyring/instance-ports.ts',
    'keyring/event-ports.ts',
    'keyring/set-ports.ts',
    'keyring/approval-ports.ts',
    'keyring/model.ts',
    'keyring/rotation-hold.ts',
    'keyring/rotation-policy.ts',
    'audit/ports.ts',
    'audit/tree/hashes.ts',
    'audit/tree/tiles.ts',
    'type audit/tree/edge.ts',
    'type audit/log-ports.ts',
    'type audit/archive-ports.ts',
    'type audit/grace/ports.ts',
    'type audit/sequencer-ports.ts',
    'type audit/sinks/ports.ts',
    'leader',
    'type audit/cosignature-ports.ts',
    'type audit/key-ports.ts',
    'access/ports.ts',
    'rotation/scheduler-ports.ts',
    'rotation/order-ports.ts',
    'keyring/order-ports.ts',
    'keyring/root-ports.ts',
    'rotation/ports.ts',
    'limits/ports.ts',
    'limits/usage-ports.ts',
    'backup/ports.ts',
    'type hsm/port.ts',
  ],
  governance: [
    'errors',
    'name',
    'epoch',
    'crypto/bytes.ts',
    'crypto/cbor.ts',
    'crypto/uuid.ts',
    'type backup/ports.ts',
    'keyring/changes.ts',
    'keyring/long-operations.ts',
    'keyring/root-change.ts',
    'keyring/root-ports.ts',
    'type keyring/root.ts',
    'type keyring/job-operations.ts',
    'keyring/in-turns.ts',
    'keyring/names.ts',
    'type keyring/row-mac.ts',
    'type keyring/operations.ts',
    'type keyring/ports.ts',
    'keyring/set-ports.ts',
    'type keyring/approval-ports.ts',
    'type keyring/events.ts',
    'contract/guards.ts',
    'access',
    'type audit/key-ports.ts',
  ],
  telemetry: ['errors', 'name'],
  http: [
    'errors',
    'name',
    'epoch',
    'duration',
    'settled',
    'contract',
    'keyring',
    'governance',
    'access',
    'audit',
    'telemetry',
    'limits',
    'type rotation/due.ts',
    'type rotation/first-items.ts',
    'type rotation/forecast.ts',
    'type rotation/planning.ts',
    'type rotation/reading.ts',
    'type rotation/scheduler-ports.ts',
    /** What is shown or fed to an operation, never an operation itself. */
    'crypto/context.ts',
    'crypto/envelope.ts',
    'crypto/jwk.ts',
    'crypto/secret.ts',
    'crypto/spki.ts',
    'crypto/suite.ts',
    'crypto/suites.ts',
    'crypto/uuid.ts',
    'type crypto/certificate-chain.ts',
    'type crypto/csr.ts',
    'type crypto/engine.ts',
    'type crypto/key-encoding.ts',
  ],
  kubernetes: [
    'errors',
    'name',
    'epoch',
    'keyring',
    'access',
    'audit',
    'telemetry',
    /** The form of envelopes, which KMS v2 stores in parts. */
    'crypto/base64.ts',
    'crypto/bytes.ts',
    'crypto/context.ts',
    'crypto/envelope.ts',
    'crypto/secret.ts',
    'crypto/suite.ts',
    'crypto/suites.ts',
    'crypto/uuid.ts',
  ],
  client: [
    'errors',
    'name',
    'contract',
    /** Forms of what an export of the log consists of. */
    'audit/tree/checkpoint.ts',
    'audit/tree/tiles.ts',
    /** What sealed files and signatures that are verified offline are made of. */
    'crypto/base64.ts',
    'crypto/bytes.ts',
    'crypto/cbor.ts',
    'crypto/context.ts',
    'crypto/envelope.ts',
    'crypto/native-engine.ts',
    'crypto/secret.ts',
    'crypto/spki.ts',
    'crypto/suites.ts',
    'crypto/uuid.ts',
    /** What is made of a key before it is imported. */
    'crypto/der.ts',
    'crypto/import-envelope.ts',
    'crypto/private-key.ts',
    'crypto/export-envelope.ts',
    'crypto/pem.ts',
    'crypto/suite.ts',
    /** What the agent's provider asks. */
    'type kubernetes/ports.ts',
    'keyring/provider-record.ts',
  ],
  cli: ['errors', 'name', 'duration', 'contract', 'config', 'client'],
  /** The form of key set files and the ids of suites, so that `config check` finds what a start would refuse. */
  config: [
    'errors',
    'name',
    'duration',
    'access/jwk-set.ts',
    'crypto/suite.ts',
    /** The form of names and keys of logs. */
    'audit/notes.ts',
    'crypto/suites.ts',
    'keyring/durations.ts',
  ],
  'data-folder': ['errors', 'name'],
  'launch-guard': ['errors', 'name'],
  /** The composition root: the only place that sees a port and its implementation together. */
  main: ['*'],
};

/** Which parts may import an npm package; a package that is not listed here may be imported by none. */
export const PACKAGES: Readonly<Record<string, readonly string[]>> = {
  express: ['http'],
  '@prisma/client': ['store'],
  '@prisma/adapter-pg': ['store'],
  pg: ['store'],
  'graphene-pk11': ['hsm'],
  pkcs11js: ['hsm'],
  koffi: ['hsm'],
  '@noble/curves': ['crypto'],
  '@noble/hashes': ['crypto'],
  '@noble/post-quantum': ['crypto'],
  '@cedar-policy/cedar-wasm': ['access'],
  jose: ['access'],
  '@grpc/grpc-js': ['kubernetes'],
  '@grpc/proto-loader': ['kubernetes'],
  yaml: ['kubernetes'],
  pino: ['telemetry'],
  'prom-client': ['telemetry'],
  '@opentelemetry/api': ['telemetry'],
  /** In `main` for the files that two zones hand each other. */
  zod: ['contract', 'config', 'http', 'main'],
  'zod-openapi': ['contract', 'http'],
};

/** The only part that reads `process.env`. */
export const ENVIRONMENT_READER = 'config';

/**
 * Parts and files that turn the id of a suite into its row. Ids come in over HTTP, in a configuration
 * and in a client's files; below, a row or its number is passed on.
 */
export const SUITE_RESOLVERS = [
  'http',
  'client',
  'config',
  'crypto/suites.ts',
  /** Published vectors, which name their suite. */
  'crypto/known-answers.ts',
];

/** Longest file of `src/`, in lines. */
export const MAX_LINES = 500;

/** Folder names that say nothing about the domain. */
export const EMPTY_NAMES = ['utils', 'util', 'helpers', 'common', 'misc', 'lib', 'shared'];

/** The import table as ARCHITECTURE.md quotes it. */
export const rulesAsMarkdown = (): string => {
  const rows = Object.entries(IMPORTS).map(([part, allowed]) => {
    const cells = allowed.map((entry) => (entry === '*' ? 'everything' : `\`${entry}\``));
    return `| \`${part}\` | ${cells.length === 0 ? 'nothing' : cells.join(', ')} |`;
  });
  return ['| part | may import |', '| --- | --- |', ...rows].join('\n');
};
