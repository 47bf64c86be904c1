"""Who a person is.

The life of an account:

1. a signup stores the user and the task that mails them, both or neither, and answers alike whoever it is (`forms`);
2. the link in the mail proves the address, where the password is known; or its owner disowns the account
   (`verification`);
3. a login is counted before anything is hashed (`throttle`), shows a second factor if there is one (`factors`), and
   comes through the one door (`door`) to a session that is a row (`sessions`);
4. what can change who has the account asks for the password again (`door.sensitive`): password, second factors
   (`factors`), address (`email_change`), sessions (`session_views`);
5. each of that is an event that its user and administrators can read (`events`, `security_log`), and a mail
   (`mail_list`, `emails`, `tasks`);
6. a copy of all data can be taken (`export`, `archive`), and after two weeks of grace all of it is erased (`deletion`,
   `erasure`), which other apps take part in (`personal_data`).

What these stand on: `models` (all rows) · `network` `browsers` `user_agents` (where a request comes from) · `tokens`
(links) `logs` (which hide them) · `hashers` `validators` (passwords) · `names` (without links) · `json_bodies`
`json_login` (clients in other languages) · `headers` `checks` (hardening) · `admin` `admin_site` (the administration).
docs/security.md holds it all against the ASVS.
"""
