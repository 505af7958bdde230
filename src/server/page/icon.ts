/** A sheet folded into eight leaves, one of them in use. */
export const ICON = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">
<rect width="32" height="32" rx="6" fill="#12161c"/>
<g fill="#9aa6b5"><rect x="7" y="5" width="8" height="4.5"/><rect x="17" y="5" width="8" height="4.5"/>
<rect x="7" y="11" width="8" height="4.5"/>
<rect x="7" y="17" width="8" height="4.5"/><rect x="17" y="17" width="8" height="4.5"/>
<rect x="7" y="23" width="8" height="4.5"/><rect x="17" y="23" width="8" height="4.5"/></g>
<rect x="17" y="11" width="8" height="4.5" fill="#6ea8fe"/></svg>
`;
