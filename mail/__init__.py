"""How mails leave: over SMTP connections that are kept from one mail to the next."""
