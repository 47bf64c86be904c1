"""Who a person is: the user, signup, verification of the address, login."""
