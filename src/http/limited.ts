/** Who asks for what, as limits tell it apart. */
import type { Principal } from '../access/grant.ts';
import type { RateClass } from '../governance/limits.ts';

/** What is asked. */
export interface Limited {
  readonly principal: Principal;
  readonly namespace: string;
  /** As the request names it. */
  readonly key: string | null;
  readonly plane: RateClass;
  /** Whether it is a use of keys (`isUse`): quotas of uses count nothing else. */
  readonly uses: boolean;
}

/** No text of two parts, so written, is that of two others. */
export const lengthAnd = (text: string): string => `${String(text.length)}:${text}`;

/** The same text for nobody else. */
export const whoOf = ({ principal: { issuer, subject } }: Pick<Limited, 'principal'>): string =>
  `${lengthAnd(issuer)}${subject}`;
