// Passkeys. A form with data-passkey="create" or "get" is hidden until this script finds that the browser can do it.
// When it is sent, the script fetches a challenge from data-options, lets the browser answer it, and sends the answer
// in the field "credential". What can go wrong is in the page already, in the reader's language, and only shown.
"use strict";

(() => {
  const bytes = (text) => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
  const text = (buffer) =>
    btoa(String.fromCharCode(...new Uint8Array(buffer))).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
  const withIds = (list) => (list || []).map((each) => ({ ...each, id: bytes(each.id) }));

  const ceremonies = {
    create: async (options) => {
      const publicKey = {
        ...options,
        challenge: bytes(options.challenge),
        user: { ...options.user, id: bytes(options.user.id) },
        excludeCredentials: withIds(options.excludeCredentials),
      };
      const credential = await navigator.credentials.create({ publicKey });
      const { clientDataJSON, attestationObject, getTransports } = credential.response;
      return answer(credential, {
        clientDataJSON: text(clientDataJSON),
        attestationObject: text(attestationObject),
        transports: getTransports ? credential.response.getTransports() : [],
      });
    },
    get: async (options) => {
      const publicKey = {
        ...options,
        challenge: bytes(options.challenge),
        allowCredentials: withIds(options.allowCredentials),
      };
      const credential = await navigator.credentials.get({ publicKey });
      const { clientDataJSON, authenticatorData, signature, userHandle } = credential.response;
      return answer(credential, {
        clientDataJSON: text(clientDataJSON),
        authenticatorData: text(authenticatorData),
        signature: text(signature),
        userHandle: userHandle && userHandle.byteLength ? text(userHandle) : null,
      });
    },
  };

  const answer = (credential, response) => ({
    id: credential.id,
    rawId: text(credential.rawId),
    type: credential.type,
    authenticatorAttachment: credential.authenticatorAttachment,
    response,
  });

  const run = async (form) => {
    const token = form.elements.csrfmiddlewaretoken.value;
    const response = await fetch(form.dataset.options, {
      method: "POST",
      headers: { "X-CSRFToken": token },
      redirect: "error",
    });
    if (!response.ok) throw new Error(`${response.status}`);
    form.elements.credential.value = JSON.stringify(await ceremonies[form.dataset.passkey](await response.json()));
    form.submit();
  };

  const isPossible = Boolean(window.PublicKeyCredential);
  for (const notice of document.querySelectorAll("[data-passkey-missing]")) notice.hidden = isPossible;
  for (const form of isPossible ? document.querySelectorAll("form[data-passkey]") : []) {
    const problem = form.querySelector("[data-passkey-problem]");
    form.hidden = false;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const button = form.querySelector("button");
      if (button.disabled) return;
      button.disabled = true;
      problem.hidden = true;
      run(form).catch(() => {
        problem.hidden = false;
        button.disabled = false;
      });
    });
  }
})();
