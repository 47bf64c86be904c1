from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('accounts', '0001_initial'),
        ('auth', '0012_alter_user_first_name_max_length'),
    ]

    operations = [
        migrations.AddIndex(
            model_name='user',
            index=models.Index(condition=models.Q(('email_verified_at__isnull', True), ('is_active', True), ('is_staff', False), ('is_superuser', False), ('last_login__isnull', True)), fields=['created_at'], name='accounts_user_unverified'),
        ),
    ]
