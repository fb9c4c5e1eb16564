/** What a command uses of the configuration. */
export const PARTS = ['listeners', 'database', 'owner', 'hsm', 'issuers'] as const;
export type ConfigPart = (typeof PARTS)[number];
