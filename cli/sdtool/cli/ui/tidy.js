if (document.getElementById("tidy-request")) {
  const { at, token, begin } = panel;

  const show = async (number) => {
    const answer = await fetch(`/tidy/plans/${number}${token}`);
    if (!answer.ok) return;
    at("plan").innerHTML = await answer.text();  // made by the server, where every name is escaped
    at("plan").scrollIntoView({ block: "nearest" });
  };

  const change = (path, request) => begin(path, request, () => at("plan").replaceChildren());

  at("tidy-request").addEventListener("submit", (event) => {
    event.preventDefault();
    at("plan").replaceChildren();
    begin("/tidy/plans", {
      folder: at("folder").value,
      program: at("program").value,
      variant: at("tidy-variant").value,
      dtype: at("tidy-dtype").value,
      strict: at("strict").checked,
    }, show);
  });
  at("plan").addEventListener("click", (event) => {
    const { plan } = event.target.dataset;
    if (plan) change(`/tidy/plans/${plan}/run`, {});
  });
  at("undo").addEventListener("click", () => change("/tidy/undo", { folder: at("folder").value }));
  at("forget").addEventListener("click", () => change("/tidy/forget", { folder: at("folder").value }));
}
