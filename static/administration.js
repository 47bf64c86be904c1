// Django's lists of what can be chosen have icons with a label, but without a role that may have one.
"use strict";

addEventListener("load", () => {
  for (const icon of document.querySelectorAll(".help-tooltip[aria-label]")) icon.setAttribute("role", "img");
});
