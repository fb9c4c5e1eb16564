/** How much of its quotas a namespace has used. */

export interface NamespaceUsage {
  /** Keys that are not destroyed. */
  readonly keys: number;
  /** Versions that are not destroyed. */
  readonly versions: number;
}

export interface UsageStore {
  usageOf(namespace: string): Promise<NamespaceUsage>;
}
