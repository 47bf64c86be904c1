// Adds a button to each password field that shows what was typed. Without this script the fields work as they are.
"use strict";

for (const place of document.querySelectorAll("[data-show-password]")) {
  const input = place.querySelector("input[type=password]");
  const label = input?.labels[0];
  if (!label) continue;

  const button = document.createElement("button");
  button.type = "button";
  button.className = "show-password";
  button.textContent = place.dataset.showPassword;
  button.id = `${input.id}_show`;
  label.id ||= `${input.id}_label`;
  button.setAttribute("aria-labelledby", `${button.id} ${label.id}`); // "Show", and which
  button.setAttribute("aria-controls", input.id);

  const show = (isShown) => {
    input.type = isShown ? "text" : "password";
    button.setAttribute("aria-pressed", isShown);
  };
  // some browsers send what is typed into a text field away to have its spelling checked
  input.spellcheck = false;
  input.autocapitalize = "none";
  show(false);
  button.addEventListener("click", () => show(input.type === "password"));
  // password managers look for the type when it is sent; and whoever comes back to the page sees nothing
  input.form?.addEventListener("submit", () => show(false));
  window.addEventListener("pagehide", () => show(false));
  place.append(button);
}
