/** What a snapshot or a dump of etcd consists of: revisions of keys. */
export interface EtcdRecord {
  readonly key: string;
  /** Null where the revision removed the key. */
  readonly value: Uint8Array | null;
}

/** A whole file of them. */
export interface EtcdContent {
  /** Older revisions of a key first. */
  readonly records: AsyncIterable<EtcdRecord> | Iterable<EtcdRecord>;
}
