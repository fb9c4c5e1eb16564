/** What the import of a key asks of the storage beside its write. */

export interface UsedImports {
  /** Whether a key was made with these import parameters; what says so is kept for a day beyond their expiry. */
  isImportUsed(id: string): Promise<boolean>;
}
