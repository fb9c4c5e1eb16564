/**
 * Everything that carries the product's name into data, labels or headers.
 *
 * Bytes that contain one of these are stored for years: a value here never changes, a new
 * construction takes a new label with a new number.
 */
export const NAME = {
  /** Human-readable product name. */
  product: 'Twofold KMS',
  /** Prefix of the text form of an envelope; the digit is the envelope version. */
  envelopeText: 'tf1.',
  /** HPKE `info` prefix of wraps. */
  wrapInfo: 'twofold/wrap/1',
  /** HPKE `info` prefix of encapsulations. */
  kemInfo: 'twofold/kem/1',
  /** Associated-data prefix of software halves sealed under `root-seal`. */
  seal: 'twofold/seal/1',
  /** Domain of row MACs. */
  rowMac: 'twofold/row/1',
  /** Domain of the audit batch HMAC. */
  auditBatch: 'twofold/audit-batch/1',
  /** Domain of the audit value HMAC (request values that are not logged in clear). */
  auditValue: 'twofold/audit-value/1',
  /** Domain from which the key of the hashes of a batch's items is derived. */
  auditItem: 'twofold/audit-item/1',
  /** Domain from which the key of page tokens is derived. */
  pageToken: 'twofold/page-token/1',
  /** Domain of the canary that proves a root generation. */
  canary: 'twofold/canary/1',
  /** HPKE `info` prefix of a key that is imported. */
  importInfo: 'twofold/import/1',
  /** Domain of the data from which the wrapping key of an import is derived in the token. */
  importWrapping: 'twofold/import-wrapping/1',
  /** HPKE `info` prefix of a key that is exported. */
  exportInfo: 'twofold/export/1',
  /** First bytes of a sealed file; its version byte follows. */
  sealedFile: 'TWOFOLD',
  /** HKDF `info` of a sealed file's content key and key commitment. */
  sealedFileKeys: 'twofold/sealed-file-keys/1',
  /** Domain of the hash over a sealed file's chunks. */
  sealedFileContent: 'twofold/sealed-file-content/1',
  /** Format of a sealed file's manifest, and the context of its signature. */
  sealedFileManifest: 'twofold/sealed-file-manifest/1',
  /** Domain of what each share of a recovery key is known by. */
  share: 'twofold/share/1',
  /** Domain of the checksum of a share's text. */
  shareText: 'twofold/share-text/1',
  /** HKDF `info` of the key that a root travels under, and first part of its transcript. */
  rootTransport: 'twofold/root-transport/1',
  join: 'twofold/join/2',
  /** Domain of the MAC of a join by the database. */
  joinRequest: 'twofold/join-request/1',
  escrow: 'twofold/escrow/1',
  /** First bytes of a backup's content; its version byte follows. */
  backup: 'TWOFOLDBACKUP',
  /** HPKE `info` prefix of a backup's keys. */
  backupKeys: 'twofold/backup-keys/1',
  /** Domain of the hash over a backup's chunks. */
  backupContent: 'twofold/backup-content/1',
  /** Domain of what is signed of a backup. */
  backupManifest: 'twofold/backup-manifest/1',
  /** Prefix of our own HTTP headers. */
  header: 'Twofold-',
  /** Prefix of the environment variables that configure the service. */
  environment: 'TWOFOLD_',
  /** Label prefix of objects that we make on a token. */
  tokenLabel: 'twofold',
  /** `iss` and `aud` of the development issuer. */
  developmentIssuer: 'urn:twofold:development',
  /** Issuer of the service's own principals; no other may have it. */
  systemIssuer: 'urn:twofold:system',
  audience: 'twofold',
  /** Prefix of metric names; also of our own span attributes, with a dot. */
  metric: 'twofold',
  /** `source` of events; the id of the installation follows. */
  eventSource: 'urn:twofold:installation:',
  /** Prefix of the types of events, as a reversed domain name that nobody can own. */
  eventType: 'kms.twofold.',
  /** Attribute of events that holds the namespace. */
  eventNamespace: 'twofoldnamespace',
  /** Prefix of the key_id of a Kubernetes KMS v2 provider; the digit is its version. */
  kubernetesKeyId: 'tfk1.',
  /** Annotation of KMS v2 values that holds header and encapsulation; a domain name that nobody can own. */
  kubernetesAnnotation: 'enc.kms.twofold.internal',
  /** URI prefix of RFC 9457 problem types; the code follows. */
  problemType: 'urn:twofold:problem:',
} as const;
